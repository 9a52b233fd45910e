"""Real processes that stand for those of an embedded stack."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.local.config import MEMBER, ROOT

SLEEPS = "import sys, time; print('up', flush=True); time.sleep(120)"
IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPS
HOLDS_LOCK = (
    "import sys, time; from pathlib import Path\n"
    "from shared.errors import Conflict; from shared.local.lock import exclusive\n"
    "with exclusive(Path(sys.argv[1]), Conflict('taken')):\n"
    "    print('up', flush=True); time.sleep(120)\n"
)


@contextmanager
def member(state: Path, code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `code` as a process of the stack in `state`, from when it is up to the block's end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), MEMBER: str(state.resolve())},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def supervisor(state: Path, code: str = SLEEPS) -> Iterator[subprocess.Popen[str]]:
    """Run `code` as what a stack takes for its supervisor; it supervises nothing."""
    conf = state.resolve() / "supervisord.conf"
    with member(state, code, str(conf)) as process:
        (state / "supervisord.pid").write_text(str(process.pid))
        yield process
