"""The gateway's own requests and answers."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from shared.models.geometry import Frozen

Role = Literal["admin", "annotator", "viewer"]

# Sent on as a header and shown in the audit log, hence plain ASCII.
KeyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,62}$")]


class KeyCreate(Frozen):
    """A key to be made."""

    name: KeyName = Field(description="Who or what uses it; the audit log shows it.")
    role: Role


class KeyView(Frozen):
    """A key without its secret."""

    id: str
    name: str
    role: Role
    created_at: datetime
    revoked_at: datetime | None


class NewKey(Frozen):
    """A key that was just made; `key` is shown this once."""

    id: str
    name: str
    role: Role
    key: str


class AuditEntry(Frozen):
    """One request that could change something, and what became of it."""

    id: int
    time: datetime
    principal: str
    method: str
    path: str
    project: str | None = Field(description="That it was about, where that is one.")
    status: int = Field(description="Of HTTP; 0 when it broke off before an answer.")
    request_id: str
