from pathlib import Path

import pytest
import torch

from shared.models.data import DatasetManifest
from shared.objects.directory import DirectoryStore
from training_service.app.services.materialise import materialise
from training_service.app.services.specs import Precision, Progress, TrainSpec
from training_service.app.services.trainer import (
    CHECKPOINT,
    DetectorTraining,
    MixedPrecisionModel,
    wants_bfloat16,
)
from training_service.tests.data import CLASSES, TINY


class Interrupted(Exception):
    pass


@pytest.fixture
def spec(manifest: DatasetManifest, store: DirectoryStore, tmp_path: Path) -> TrainSpec:
    return TrainSpec(
        data_yaml=materialise(manifest, store, tmp_path / "datasets"),
        work=tmp_path / "work",
        classes=CLASSES,
        params=TINY.model_copy(update={"epochs": 4}),
        base="scratch",
        threads=1,
        precision="float32",
        checkpoint_every_s=0,
    )


def trained(spec: TrainSpec, stop_at: float = 2.0) -> DetectorTraining:
    def report(progress: Progress) -> None:
        if progress.fraction >= stop_at:
            raise Interrupted

    spec.work.mkdir(exist_ok=True)
    training = DetectorTraining(spec, report)
    training.run()
    return training


def test_a_training_that_was_interrupted_ends_as_one_that_was_not(
    spec: TrainSpec, tmp_path: Path
) -> None:
    whole = trained(spec.model_copy(update={"work": tmp_path / "whole"}))
    with pytest.raises(Interrupted):
        trained(spec, stop_at=0.75)
    resumed = trained(spec)
    assert resumed.start_epoch == 2
    assert resumed.n_iterations == whole.n_iterations == 8
    assert resumed.history["box_loss"] == pytest.approx(whole.history["box_loss"], rel=1e-3)
    weights = whole.ema.ema.state_dict()
    for name, value in resumed.ema.ema.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=1e-2, atol=1e-3)


def test_a_training_whose_last_epoch_was_done_only_loads_it(spec: TrainSpec) -> None:
    first = trained(spec)
    again = trained(spec)
    assert again.n_iterations == 8
    for name, value in again.ema.ema.state_dict().items():
        assert torch.equal(value, first.ema.ema.state_dict()[name])


def test_a_half_written_checkpoint_is_not_read(spec: TrainSpec) -> None:
    spec.work.mkdir()
    (spec.work / CHECKPOINT).with_suffix(".tmp").write_bytes(b"half")
    assert trained(spec).n_iterations == 8


def test_images_without_objects_can_be_trained_on(spec: TrainSpec) -> None:
    for labels in (spec.data_yaml.parent / "labels" / "train").glob("*.txt"):
        labels.write_text("")
    assert trained(spec).history["box_loss"] == [0, 0, 0, 0]


def test_the_network_trains_in_bfloat16_with_losses_in_float32(spec: TrainSpec) -> None:
    training = trained(spec.model_copy(update={"precision": "bfloat16"}))
    assert isinstance(training.model, MixedPrecisionModel)
    assert next(training.model.parameters()).dtype == torch.float32
    assert all(value > 0 for value in training.history["cls_loss"])


@pytest.mark.parametrize(
    ("flags", "precision", "expected"),
    [
        ("", "auto", False),
        ("flags : fpu avx2 avx512f", "auto", False),
        ("flags : fpu avx512_bf16", "auto", True),
        ("flags : fpu amx_bf16", "auto", True),
        ("flags : fpu amx_bf16", "float32", False),
        ("", "bfloat16", True),
    ],
)
def test_bfloat16_is_used_where_the_cpu_has_it(
    flags: str, precision: Precision, expected: bool, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    assert wants_bfloat16(precision, tmp_path / "cpuinfo") is expected
