"""What `fovea doctor` looks at, and how to mend what is wrong."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

import httpx2
import psutil
from pydantic import SecretStr

from shared.client import GatewayClient
from shared.errors import AppError
from shared.local.programs import valkey_server
from shared.local.stack import EmbeddedStack
from shared.settings import Settings

MIN_FREE_GB = 5
MIN_MEMORY_GB = 8


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    part: str
    ok: bool
    detail: str
    remedy: str = ""


def diagnose(settings: Settings) -> list[Finding]:
    """Look at the machine, the installation and the stack, and return what was found."""
    return [
        _python(),
        _disk(settings),
        _memory(),
        _guarded("valkey-server", _valkey, "run `make setup`"),
        *_stack(settings),
    ]


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    ok = sys.version_info[:2] == (3, 11)
    return Finding("python", ok, version, "" if ok else "install Python 3.11, then `make setup`")


def _disk(settings: Settings) -> Finding:
    folder = settings.state_dir if settings.state_dir.exists() else "."
    free = shutil.disk_usage(folder).free / 1e9
    ok = free >= MIN_FREE_GB
    remedy = "" if ok else f"free {MIN_FREE_GB} GB, or set FOVEA_STATE_DIR to another disk"
    return Finding("disk", ok, f"{free:.0f} GB free", remedy)


def _memory() -> Finding:
    total = psutil.virtual_memory().total / 1e9
    ok = total >= MIN_MEMORY_GB
    return Finding("memory", ok, f"{total:.0f} GB", "" if ok else f"needs {MIN_MEMORY_GB} GB")


def _valkey() -> str:
    return valkey_server()


def _guarded(part: str, look: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(part, ok=True, detail=look())
    # An address or a key that no request can hold is no HTTP error.
    except (AppError, ImportError, httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as exc:
        return Finding(part, ok=False, detail=str(exc), remedy=remedy)


def _stack(settings: Settings) -> list[Finding]:
    key = settings.api_key
    if key is not None:
        remedy = "check FOVEA_GATEWAY_URL, and that the stack is up"
        gateway = _guarded("gateway", lambda: _ready(settings.gateway_url), remedy)
        remedy = "set FOVEA_API_KEY to a key that `python -m gateway.app.keys create` made"
        return _with_key([gateway], lambda: _opens(settings.gateway_url, key), remedy)
    stack = EmbeddedStack(settings.state_dir)
    if not stack.is_running():
        detail = f"no embedded stack runs in {stack.state}"
        return [Finding("stack", ok=False, detail=detail, remedy="`make local`")]
    found = [
        Finding(
            part.name,
            part.ready,
            f"{part.state} {part.detail}",
            "" if part.ready else f"read {stack.state / 'logs' / part.name}.log",
        )
        for part in stack.health()
    ]
    remedy = "stop the stack, and `make local` again"
    return _with_key(found, lambda: _opens(stack.urls["gateway"], stack.api_key), remedy)


def _with_key(found: list[Finding], look: Callable[[], str], remedy: str) -> list[Finding]:
    """Add how the key does, once everything is there that it could open."""
    if not all(finding.ok for finding in found):
        return found
    return [*found, _guarded("api key", look, remedy)]


def _ready(url: str) -> str:
    response = httpx2.get(f"{url}/readyz", timeout=10)
    if response.status_code != httpx2.codes.OK:
        msg = f"{url}: {response.text[:300]}"
        raise AppError(msg)
    return f"{url}: ready"


def _opens(url: str, key: SecretStr | str) -> str:
    client = GatewayClient(url, key)
    try:
        client.projects()
    finally:
        client.close()
    return f"opens {url}"
