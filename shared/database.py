"""One relational database: SQLite when embedded, PostgreSQL in the stack."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import DateTime, Engine, MetaData, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.types import TypeDecorator

from shared.errors import BackendUnavailable, ValidationFailed

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Parent of every table; each service declares its own in `app/models/tables.py`."""

    metadata = MetaData(naming_convention=NAMING)


class UtcDateTime(TypeDecorator[datetime]):
    """A time with zone, which SQLite would hand back without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC; refuse a time without zone."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"a time without zone: {value.isoformat()}"
            raise ValueError(msg)
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def utcnow() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)


class Database:
    """Engine and short transactions; after a commit, what asked to be called is called."""

    def __init__(self, url: str) -> None:
        """Connect lazily to `url`; a SQLite file's folder is made."""
        self.url: URL = make_url(url)
        self.engine = _create_engine(self.url)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Yield a session in ONE transaction, committed at the end and rolled back on error.

        Raises:
            BackendUnavailable: the database does not answer.
            ValidationFailed: it cannot hold a value: a NUL in a text, a number over its range.
        """
        with self._sessions() as session:
            try:
                with session.begin():
                    yield session
            except OperationalError as exc:
                msg = f"database ({self.url.drivername}): {exc.orig}"
                raise BackendUnavailable(msg) from exc
            except (DataError, OverflowError) as exc:
                cause = exc.orig if isinstance(exc, DataError) else exc
                msg = f"a value that the database cannot hold: {cause}"
                raise ValidationFailed(msg) from exc
            for callback in session.info.pop("after_commit", []):
                callback()

    def check(self) -> None:
        """Ask the database for an answer.

        Raises:
            BackendUnavailable: it gives none.
        """
        with self.transaction() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def call_after_commit(session: Session, callback: Callable[[], None]) -> None:
    """Have `callback` called once the session's transaction is committed."""
    session.info.setdefault("after_commit", []).append(callback)


def _create_engine(url: URL) -> Engine:
    if not url.drivername.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=15)
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": 10})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _configure_sqlite(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    del record
    # The driver's own BEGIN would be deferred: two writers then deadlock instead of waiting.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "busy_timeout=10000", "foreign_keys=ON", "synchronous=FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
