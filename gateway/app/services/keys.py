"""API keys: made, looked up, revoked; only their SHA-256 is ever stored."""

import hashlib
import secrets
import time
import uuid
from typing import cast

from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.app.core.roles import SERVICE, Principal
from gateway.app.models.schemas import KeyCreate, KeyView, NewKey, Role
from gateway.app.models.tables import ApiKeyRow
from shared.database import Database, utcnow
from shared.errors import BadRequest, NotFound, Unauthorised

PREFIX = "fov_"
CACHE_S = 5.0


class UnknownKey(NotFound):
    """No API key has this id."""


class ApiKeys:
    """The keys that open the gateway.

    A known key is remembered for `CACHE_S` seconds, so that not every request asks the database;
    revoking here forgets it at once, revoking in another process takes effect within that time.
    """

    def __init__(self, database: Database, service_key: SecretStr) -> None:
        """Keep keys in `database`; `service_key` is the one of our own services."""
        self._database = database
        self._service_sha256 = digest(service_key.get_secret_value())
        self._known: dict[str, tuple[Principal, float]] = {}
        self._n_revoked = 0

    def create(self, request: KeyCreate) -> NewKey:
        """Make a key of 256 random bits and return it, for the only time.

        Raises:
            BadRequest: the name is the one of our own services.
        """
        if request.name == SERVICE.name:
            msg = f"reserved key name: {request.name!r}"
            raise BadRequest(msg)
        key = PREFIX + secrets.token_urlsafe(32)
        row = ApiKeyRow(
            id=uuid.uuid4().hex, name=request.name, role=request.role, sha256=digest(key)
        )
        with self._database.transaction() as session:
            session.add(row)
        return NewKey(id=row.id, name=request.name, role=request.role, key=key)

    def list(self) -> list[KeyView]:
        """Return every key ever made, the oldest first."""
        query = select(ApiKeyRow).order_by(ApiKeyRow.created_at, ApiKeyRow.id)
        with self._database.transaction() as session:
            return [_view(row) for row in session.scalars(query)]

    def revoke(self, key_id: str) -> KeyView:
        """End a key's life; a second time changes nothing.

        Raises:
            UnknownKey: no key has this id.
        """
        with self._database.transaction() as session:
            row = _require(session, key_id)
            row.revoked_at = row.revoked_at or utcnow()
            revoked = _view(row)
        self._n_revoked += 1
        self._known = {}
        return revoked

    def remembered(self, sha256: str) -> Principal | None:
        """Return whose key has this hash, if that is known without asking the database."""
        if secrets.compare_digest(sha256, self._service_sha256):
            return SERVICE
        principal, until = self._known.get(sha256, (None, 0.0))
        return principal if time.monotonic() < until else None

    def look_up(self, sha256: str) -> Principal:
        """Ask the database whose key has this hash.

        Raises:
            Unauthorised: it is unknown or was revoked.
        """
        query = select(ApiKeyRow).where(ApiKeyRow.sha256 == sha256, ApiKeyRow.revoked_at.is_(None))
        n_revoked = self._n_revoked
        with self._database.transaction() as session:
            row = session.scalars(query).one_or_none()
        if row is None:
            msg = "unknown or revoked API key"
            raise Unauthorised(msg)
        principal = Principal(id=row.id, name=row.name, role=cast(Role, row.role))
        # A key revoked since the question must not be remembered again.
        if n_revoked == self._n_revoked:
            self._known[sha256] = (principal, time.monotonic() + CACHE_S)
        return principal


def digest(key: str) -> str:
    """Return the SHA-256 of a key, which is all that is kept of it."""
    return hashlib.sha256(key.encode()).hexdigest()


def _require(session: Session, key_id: str) -> ApiKeyRow:
    row = session.get(ApiKeyRow, key_id)
    if row is None:
        msg = f"unknown key: {key_id!r}"
        raise UnknownKey(msg)
    return row


def _view(row: ApiKeyRow) -> KeyView:
    return KeyView(
        id=row.id,
        name=row.name,
        role=cast(Role, row.role),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )
