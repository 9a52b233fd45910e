import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Mapped, mapped_column

from shared.database import Base, Database, UtcDateTime, call_after_commit
from shared.errors import ValidationFailed


class Counter(Base):
    __tablename__ = "test_counter"

    name: Mapped[str] = mapped_column(primary_key=True)
    n: Mapped[int]
    at: Mapped[datetime | None] = mapped_column(UtcDateTime)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    Base.metadata.create_all(database.engine, tables=[Base.metadata.tables["test_counter"]])
    yield database
    database.close()


@pytest.fixture(scope="module", autouse=True)
def forget_the_table() -> Iterator[None]:
    yield
    Base.metadata.remove(Base.metadata.tables["test_counter"])


def test_concurrent_increments_are_all_counted(database: Database) -> None:
    with database.transaction() as session:
        session.add(Counter(name="a", n=0))

    def increment() -> None:
        for _ in range(10):
            with database.transaction() as session:
                query = select(Counter).where(Counter.name == "a").with_for_update()
                session.scalars(query).one().n += 1

    threads = [threading.Thread(target=increment) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.transaction() as session:
        assert session.scalars(select(Counter)).one().n == 40


def test_an_error_rolls_back_and_calls_nothing(database: Database) -> None:
    called: list[str] = []

    def fail() -> None:
        with database.transaction() as session:
            session.add(Counter(name="a", n=1))
            call_after_commit(session, lambda: called.append("a"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.transaction() as session:
        assert session.scalars(select(Counter)).all() == []
    assert called == []


def test_a_callback_is_called_after_the_commit(database: Database) -> None:
    seen: list[int] = []

    def look() -> None:
        with database.transaction() as session:
            seen.append(len(session.scalars(select(Counter)).all()))

    with database.transaction() as session:
        session.add(Counter(name="a", n=1))
        call_after_commit(session, look)
    assert seen == [1]


def test_times_come_back_in_utc(database: Database) -> None:
    east = timezone(timedelta(hours=2))
    with database.transaction() as session:
        session.add(Counter(name="a", n=1, at=datetime(2026, 1, 1, 12, tzinfo=east)))
    with database.transaction() as session:
        at = session.scalars(select(Counter)).one().at
    assert at == datetime(2026, 1, 1, 10, tzinfo=UTC)


def test_a_time_without_zone_is_refused(database: Database) -> None:
    def store_naive() -> None:
        with database.transaction() as session:
            naive = datetime(2026, 1, 1)  # noqa: DTZ001 - what must be refused
            session.add(Counter(name="a", n=1, at=naive))
            session.flush()

    with pytest.raises(StatementError, match="a time without zone"):
        store_naive()


def test_a_number_over_the_range_of_its_column_is_a_failed_validation(database: Database) -> None:
    def store() -> None:
        with database.transaction() as session:
            session.add(Counter(name="a", n=10**20))

    with pytest.raises(ValidationFailed, match="a value that the database cannot hold: "):
        store()


def test_a_nul_in_a_text_is_a_failed_validation_on_postgresql(postgres_url: str) -> None:
    database = Database(postgres_url)

    def read() -> None:
        with database.transaction() as session:
            session.execute(text("SELECT :name"), {"name": "a\0"})

    with pytest.raises(ValidationFailed, match="cannot hold: PostgreSQL text fields cannot"):
        read()
    database.close()
