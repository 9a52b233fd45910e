import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from shared.errors import JobInterrupted
from shared.models.data import DatasetManifest
from shared.objects.directory import DirectoryStore
from training_service.app.services.child import ChildFailed, run_child
from training_service.app.services.materialise import materialise
from training_service.app.services.specs import TrainOutcome, TrainSpec
from training_service.app.services.trainer import CHECKPOINT
from training_service.tests.data import CLASSES, TINY

N_EPOCHS = 12


class Cancelled(Exception):
    pass


@pytest.fixture
def spec(manifest: DatasetManifest, store: DirectoryStore, tmp_path: Path) -> TrainSpec:
    return TrainSpec(
        data_yaml=materialise(manifest, store, tmp_path / "datasets"),
        work=tmp_path / "work",
        classes=CLASSES,
        params=TINY.model_copy(update={"epochs": N_EPOCHS}),
        base="scratch",
        downloads=tmp_path,
        threads=1,
        checkpoint_every_s=0,
    )


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def test_a_cancelled_training_ends_and_a_second_run_goes_on_from_its_checkpoint(
    spec: TrainSpec,
) -> None:
    def cancel_after_a_checkpoint(fraction: float, message: str) -> None:
        if (spec.work / CHECKPOINT).exists():
            raise Cancelled

    before = children()
    with pytest.raises(Cancelled):
        run_child(spec, cancel_after_a_checkpoint)
    assert children() == before
    last_epoch = torch.load(spec.work / CHECKPOINT, weights_only=True)["epoch"]
    messages: list[str] = []
    outcome = TrainOutcome.model_validate_json(run_child(spec, lambda _, m: messages.append(m)))
    log = (spec.work / "log.txt").read_text()
    assert len(outcome.history["box_loss"]) == N_EPOCHS
    assert outcome.n_iterations == 2 * N_EPOCHS
    assert f"{N_EPOCHS - 1 - last_epoch} epochs completed" in log
    assert any(message.startswith("epoch ") for message in messages)


def test_a_training_ends_when_its_worker_is_killed(spec: TrainSpec, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(spec.model_dump_json())
    code = (
        "from pathlib import Path; from training_service.app.services.child import run_child; "
        "from training_service.app.services.specs import TrainSpec; "
        f"run_child(TrainSpec.model_validate_json(Path({str(path)!r}).read_bytes()), print)"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    child = wait_for_child(worker.pid)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert child.wait(timeout=30) in {None, 1}
    assert not child.is_running()


def wait_for_child(pid: int) -> psutil.Process:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = psutil.Process(pid).children()
        if found:
            return found[0]
        time.sleep(0.02)
    pytest.fail("no child was started")


def test_the_error_of_a_training_is_named(spec: TrainSpec) -> None:
    wrong = spec.model_copy(update={"base": "resnet"})
    with pytest.raises(ChildFailed, match=r"'train' ended with code 1: .*'resnet'"):
        run_child(wrong, lambda fraction, message: None)


def test_a_killed_training_is_interrupted_work_that_can_go_on(spec: TrainSpec) -> None:
    before = children()

    def kill(fraction: float, message: str) -> None:
        for child in children():
            if child not in before:
                child.kill()

    with pytest.raises(JobInterrupted, match="'train' was killed by SIGKILL"):
        run_child(spec, kill)
    assert TrainOutcome.model_validate_json(run_child(spec, lambda fraction, message: None))
