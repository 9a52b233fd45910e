from pathlib import Path

import numpy as np
import pytest
import torch

from shared.detector.dropout import head_dropout
from shared.models.data import DatasetManifest
from shared.objects.directory import DirectoryStore
from training_service.app.services import trainer
from training_service.app.services.materialise import materialise
from training_service.app.services.specs import Precision, Progress, TrainSpec
from training_service.app.services.trainer import (
    CHECKPOINT,
    DetectorTraining,
    MixedPrecisionModel,
    wants_bfloat16,
)
from training_service.tests.data import CLASSES, TINY, tiny_manifest


class Interrupted(Exception):
    pass


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches make an epoch, also where iterations are counted."""
    monkeypatch.setattr(trainer, "MIN_BATCHES", 2)


@pytest.fixture
def spec(manifest: DatasetManifest, store: DirectoryStore, tmp_path: Path) -> TrainSpec:
    return TrainSpec(
        data_yaml=materialise(manifest, store, tmp_path / "datasets"),
        work=tmp_path / "work",
        classes=CLASSES,
        params=TINY.model_copy(update={"epochs": 4}),
        base="scratch",
        downloads=tmp_path,
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


def test_batches_of_wide_images_are_wide(
    spec: TrainSpec, store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = tiny_manifest(store, width=128)
    params = TINY.model_copy(update={"epochs": 1, "image_size": 128})
    yaml = materialise(wide, store, tmp_path / "wide")
    spec = spec.model_copy(update={"data_yaml": yaml, "params": params})
    spec.work.mkdir()
    training = DetectorTraining(spec, lambda progress: None)
    shapes, boxes = set(), []
    preprocess = training.preprocess_batch

    def note(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        shapes.add(tuple(batch["img"].shape[1:]))
        boxes.extend(batch["bboxes"].tolist())
        found: dict[str, torch.Tensor] = preprocess(batch)
        return found

    monkeypatch.setattr(training, "preprocess_batch", note)
    training.run()
    assert shapes == {(3, 64, 128)}
    # As wide as high in pixels, so half as wide as high in shares, unless the edge cut them.
    assert np.median([width / height for _, _, width, height in boxes]) == pytest.approx(0.5, 0.1)


def test_a_training_whose_last_epoch_was_done_only_loads_it(spec: TrainSpec) -> None:
    first = trained(spec)
    again = trained(spec)
    assert again.n_iterations == 8
    for name, value in again.ema.ema.state_dict().items():
        assert torch.equal(value, first.ema.ema.state_dict()[name])


def counted(spec: TrainSpec, iterations: int) -> TrainSpec:
    return spec.model_copy(
        update={"params": TINY.model_copy(update={"iterations": iterations, "batch": 4})}
    )


@pytest.mark.parametrize(("iterations", "n_epochs"), [(1, 1), (4, 2), (5, 3)])
def test_a_training_stops_at_the_iteration_it_was_asked_for(
    spec: TrainSpec, iterations: int, n_epochs: int
) -> None:
    said: list[Progress] = []
    spec.work.mkdir()
    training = DetectorTraining(counted(spec, iterations), said.append)
    training.run()
    assert training.n_iterations == iterations
    assert len(training.history["box_loss"]) == n_epochs
    assert said[-1].fraction == 1
    assert said[-1].message.startswith(f"iteration {iterations} of {iterations}, loss ")


def test_the_learning_rate_of_an_iteration_does_not_depend_on_the_number_of_images(
    spec: TrainSpec, store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rates(spec: TrainSpec) -> list[float]:
        training = DetectorTraining(counted(spec, 5), lambda progress: None)
        seen: list[float] = []
        step = training.optimizer_step

        def note() -> None:
            step()
            seen.append(training.optimizer.param_groups[0]["lr"])

        monkeypatch.setattr(training, "optimizer_step", note)
        training.run()
        return seen

    few = tiny_manifest(store, ("train", "train", "val"))
    yaml = materialise(few, store, tmp_path / "datasets")
    of_few = rates(spec.model_copy(update={"data_yaml": yaml, "work": tmp_path / "few"}))
    assert of_few == rates(spec)
    share = [1, 1 - 0.99 * 0.2, 1 - 0.99 * 0.4, 1 - 0.99 * 0.6, 1 - 0.99 * 0.8]
    assert of_few == pytest.approx([TINY.learning_rate * s for s in share])


def test_an_interrupted_training_by_iterations_ends_as_one_that_was_not(
    spec: TrainSpec, tmp_path: Path
) -> None:
    spec = counted(spec, 5)
    whole = trained(spec.model_copy(update={"work": tmp_path / "whole"}))
    with pytest.raises(Interrupted):
        trained(spec, stop_at=0.8)
    resumed = trained(spec)
    assert (resumed.start_epoch, resumed.n_iterations) == (1, 5)
    assert resumed.history["box_loss"] == pytest.approx(whole.history["box_loss"], rel=1e-3)
    assert trained(spec).n_iterations == 5


def test_rare_classes_are_seen_more_often_in_a_balanced_training_and_equally_when_resumed(
    spec: TrainSpec,
) -> None:
    labels = sorted((spec.data_yaml.parent / "labels" / "train").glob("*.txt"))
    for path in labels[1:]:
        path.write_text("0 0.375 0.25 0.25 0.25\n")

    def orders(balance: bool, first_epoch: int = 0) -> list[list[int]]:
        params = spec.params.model_copy(update={"balance": balance})
        training = DetectorTraining(spec.model_copy(update={"params": params}), lambda p: None)
        training._setup_train()
        drawn = []
        for training.epoch in range(first_epoch, 40):
            training.seed_epoch()
            drawn.append(list(training.train_loader.batch_sampler.sampler.sampler))
        return drawn

    balanced = orders(balance=True)
    assert {len(epoch) for epoch in balanced} == {8}
    n_rare = sum(epoch.count(0) for epoch in balanced)
    assert sum(epoch.count(0) for epoch in orders(balance=False)) == 40
    # sqrt(6) against 1: 2.45 of 7.45 draws, 320 draws.
    assert n_rare == pytest.approx(105, abs=25)
    assert orders(balance=True, first_epoch=7) == balanced[7:]


@pytest.mark.parametrize(("dropout", "while_training"), [(None, 0.1), (0.0, 0.0), (0.3, 0.3)])
def test_dropout_acts_while_training_only_if_asked_for_and_is_there_for_the_passes(
    spec: TrainSpec, dropout: float | None, while_training: float
) -> None:
    params = spec.params.model_copy(update={"epochs": 1, "dropout": dropout})
    training = trained(spec.model_copy(update={"params": params}))
    assert head_dropout(training.model) == while_training
    assert head_dropout(training.ema.ema) == 0.1


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
