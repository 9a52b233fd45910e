import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from inference_service.app.core.pixel_budget import DecodingBusy, PixelBudget


def test_what_fits_goes_on_at_once_and_what_does_not_is_refused() -> None:
    budget = PixelBudget(10e6, wait_s=0.01)
    with budget.spend(6e6), budget.spend(4e6):
        busy = pytest.raises(DecodingBusy, match="others are at work on 10 megapixels")
        with busy as caught, budget.spend(1):
            pass
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
        with budget.spend(0):
            pass
    with budget.spend(10e6):
        pass


def test_more_than_there_is_waits_for_all_of_it() -> None:
    budget = PixelBudget(10e6)
    begun, done = threading.Event(), threading.Event()

    def large() -> bool:
        begun.set()
        with budget.spend(50e6):
            return done.is_set()

    with ThreadPoolExecutor(1) as pool:
        with budget.spend(1e6):
            waiting = pool.submit(large)
            assert begun.wait(5)
            done.set()
        assert waiting.result(5)


def test_pixels_come_back_when_the_work_fails() -> None:
    budget = PixelBudget(1.0, wait_s=0.01)
    with pytest.raises(ZeroDivisionError), budget.spend(1.0):
        raise ZeroDivisionError
    with budget.spend(1.0):
        pass
