from collections.abc import Iterator
from threading import Barrier, Event, Timer

import pytest

from inference_service.app.core.ahead import read_ahead, work_ahead


def test_chunks_come_in_order_and_an_error_when_its_chunk_is_due() -> None:
    found = read_ahead([[1, 2], [3], [0]], lambda n: 6 // n, 2)
    assert [next(found), next(found)] == [[6, 3], [2]]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_who_stops_half_way_does_not_wait_for_what_nobody_began_to_read() -> None:
    begun: list[int] = []
    go = Event()

    def read(n: int) -> int:
        begun.append(n)
        assert n < 2 or go.wait(10)
        return n

    found = read_ahead([[0, 1], [2, 3, 4, 5]], read, 1)
    assert next(found) == [0, 1]
    Timer(0.3, go.set).start()
    found.close()
    assert begun == [0, 1, 2]


def test_two_are_worked_on_at_a_time_and_come_in_order() -> None:
    together = Barrier(2, timeout=10)

    def work(n: int) -> int:
        together.wait()
        return 2 * n

    assert list(work_ahead(range(4), work, 2)) == [0, 2, 4, 6]


def test_an_error_comes_when_its_item_is_due_and_no_more_is_asked_for() -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for n in (2, 0, 1, 1, 1):
            asked.append(n)
            yield n

    found = work_ahead(items(), lambda n: 2 // n, 2)
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert asked == [2, 0, 1]


def test_what_was_worked_on_comes_before_the_error_of_what_was_to_follow() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("no third")

    found = work_ahead(items(), lambda n: n, 3)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="no third"):
        next(found)
