"""What `fovea doctor` looks at, and how to mend what is wrong."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

import httpx2
import psutil

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
    except (AppError, ImportError, httpx2.HTTPError) as exc:
        return Finding(part, ok=False, detail=str(exc), remedy=remedy)


def _stack(settings: Settings) -> list[Finding]:
    if settings.api_key is not None:
        remedy = "check FOVEA_GATEWAY_URL, and that the stack is up"
        return [_guarded("gateway", lambda: _ready(settings.gateway_url), remedy)]
    stack = EmbeddedStack(settings.state_dir)
    if not stack.is_running():
        detail = f"no embedded stack runs in {stack.state}"
        return [Finding("stack", ok=False, detail=detail, remedy="`make local`")]
    return [
        Finding(
            part.name,
            part.ready,
            f"{part.state} {part.detail}",
            "" if part.ready else f"read {stack.state / 'logs' / part.name}.log",
        )
        for part in stack.health()
    ]


def _ready(url: str) -> str:
    response = httpx2.get(f"{url}/readyz", timeout=10)
    if response.status_code != httpx2.codes.OK:
        msg = f"{url}: {response.text[:300]}"
        raise AppError(msg)
    return f"{url}: ready"
