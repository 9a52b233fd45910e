from threading import Event, Timer

import pytest

from inference_service.app.core.ahead import read_ahead


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
