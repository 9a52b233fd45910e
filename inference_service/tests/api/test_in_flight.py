"""More predictions at once than may be inside: each is answered, or told to come back."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from fastapi.testclient import TestClient

from inference_service.app.core.in_flight import InFlight
from inference_service.tests.neighbours import PROJECT
from inference_service.tests.tiny import picture, png

N_REQUESTS = 24


def test_what_does_not_fit_comes_back_and_nothing_is_lost(client: TestClient) -> None:
    client.app_state["deps"] = replace(client.app_state["deps"], in_flight=InFlight(3))
    files = [png(picture(n, width=60 + n)) for n in range(N_REQUESTS)]
    n_refused: list[int] = []

    def predict(n: int) -> int:
        """Ask until there is room, and return the width that the answer has."""
        for attempt in range(1000):
            answer = client.post(f"/v1/projects/{PROJECT}/predict", files={"file": files[n]})
            if answer.status_code == 200:
                n_refused.append(attempt)
                return int(answer.json()["width"])
            assert (answer.status_code, answer.json()["error"]) == (503, "ServingBusy")
            assert answer.headers["Retry-After"] == "1"
            time.sleep(0.1)
        raise AssertionError(n)

    with ThreadPoolExecutor(N_REQUESTS) as pool:
        assert list(pool.map(predict, range(N_REQUESTS))) == [60 + n for n in range(N_REQUESTS)]
    assert sum(n_refused) > 0
