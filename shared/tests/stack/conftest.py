"""One embedded stack for all tests of this folder: the real processes, on free ports."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.client import GatewayClient
from shared.demo.digits import DemoSizes, make_demo_dataset
from shared.local.stack import EmbeddedStack

FAST = {
    "FOVEA_JOB_HEARTBEAT_S": "0.5",
    "FOVEA_JOB_STALE_S": "6",
    "FOVEA_RECONCILE_INTERVAL_S": "2",
    "FOVEA_MODEL_POLL_S": "0.5",
    # Tests that kill it have to know which one works.
    "FOVEA_INFERENCE_WORKERS": "1",
}
TINY = DemoSizes(pool=40, val=24, test=20)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    stack = EmbeddedStack(tmp_path_factory.mktemp("stack"), fixed_ports=False, settings=FAST)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def client(stack: EmbeddedStack) -> Iterator[GatewayClient]:
    client = GatewayClient(stack.urls["gateway"], stack.api_key)
    yield client
    client.close()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_dataset(tmp_path_factory.mktemp("digits"), seed=0, sizes=TINY).parent
