"""The child process that holds torch: started, watched, stopped; the worker itself stays thin."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from shared.errors import AppError, JobInterrupted
from training_service.app.services.specs import EvaluateSpec, Progress, TrainSpec

log = structlog.stdlib.get_logger()

SPEC, PROGRESS, OUTCOME, LOG = "spec.json", "progress.json", "outcome.json", "log.txt"
POLL_S = 0.25
STOP_S = 5.0


class ChildFailed(AppError):
    """The process that trains or measures ended with an error; its last line says which."""

    status = 500


def run_child(spec: TrainSpec | EvaluateSpec, on_progress: Callable[[float, str], None]) -> bytes:
    """Run `spec` in a process of its own and return the outcome it wrote, as JSON.

    An outcome that an earlier run left in `spec.work` is returned at once. Whatever `on_progress`
    raises stops the child; so does the end of this process, however it comes.

    Args:
        spec: what to do; `spec.work` must be this job's own folder.
        on_progress: is called several times a second with the last fraction and message.

    Raises:
        ChildFailed: the child ended with an error.
        JobInterrupted: the child was killed; it can go on from its last checkpoint.
    """
    outcome = spec.work / OUTCOME
    if outcome.exists():
        return outcome.read_bytes()
    spec.work.mkdir(parents=True, exist_ok=True)
    (spec.work / PROGRESS).unlink(missing_ok=True)
    (spec.work / SPEC).write_text(spec.model_dump_json())
    command = [sys.executable, "-m", "training_service.app.child_process", str(spec.work / SPEC)]
    with (spec.work / LOG).open("ab") as output:
        # The child ends when this pipe closes, so nothing trains on after this process is killed.
        # A session of its own: a signal for the worker's group must not end the training as failed.
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    log.info("child.started", kind=spec.kind, pid=child.pid)
    try:
        code = _watch(child, spec.work, on_progress)
    finally:
        _stop(child)
    if code < 0:
        raise JobInterrupted(_failure(spec, code))
    if code != 0:
        raise ChildFailed(_failure(spec, code))
    return outcome.read_bytes()


def _watch(
    child: "subprocess.Popen[bytes]", work: Path, on_progress: Callable[[float, str], None]
) -> int:
    progress = Progress(fraction=0, message="starting")
    while True:
        try:
            return child.wait(timeout=POLL_S)
        except subprocess.TimeoutExpired:
            path = work / PROGRESS
            if path.exists():
                progress = Progress.model_validate_json(path.read_bytes())
            on_progress(progress.fraction, progress.message)


def _stop(child: "subprocess.Popen[bytes]") -> None:
    if child.stdin is not None:
        child.stdin.close()
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _failure(spec: TrainSpec | EvaluateSpec, code: int) -> str:
    lines = (spec.work / LOG).read_text(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"the process of {spec.kind!r} {ended}: {last[-500:]}"
