"""Ultralytics' training loop with our model, settings and checkpoints; for the child only."""

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shared.cores import usable_cores
from shared.detector.dropout import add_head_dropout
from shared.detector.package import new_model
from shared.detector.ultralytics_env import (
    DetectionModel,
    DetectionTrainer,
    provide_fonts,
    torch_utils,
)
from training_service.app.services.hyperparameters import (
    batch_shape,
    learning_rate_share,
    overrides,
)
from training_service.app.services.sampling import FullBatchSampler, repeat_factors
from training_service.app.services.specs import Progress, TrainSpec

CHECKPOINT = "checkpoint.pt"
# An epoch of fewer steps would spend its time on beginning and ending.
MIN_BATCHES = 20
AVERAGE_DECAY, AVERAGE_RAMP = 0.99, 50


class AlreadyTrained(Exception):
    """The checkpoint is that of the end."""


class MixedPrecisionModel(DetectionModel):  # type: ignore[misc] # Ultralytics has no types
    """A detector whose network trains in bfloat16 on a CPU; its losses stay float32."""

    def predict(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return the head's output for images (B, 3, H, W)."""
        if not self.training:
            return super().predict(x, *args, **kwargs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = super().predict(
                x.contiguous(memory_format=torch.channels_last), *args, **kwargs
            )
        return _as_float32(output)


class DetectorTraining(DetectionTrainer):  # type: ignore[misc]
    """Training for small sets: warm start, weight average, and a checkpoint that resumes exactly.

    The name must not hold `Trainer`: Ultralytics adds its own MLflow logging to classes that do.
    """

    def __init__(self, spec: TrainSpec, report: Callable[[Progress], None]) -> None:
        """Prepare the training of `spec`; `report` is told after every epoch."""
        self.spec = spec
        self.report = report
        self.history: dict[str, list[float]] = {}
        self.n_iterations = 0
        self.seconds = 0.0
        self._checkpoint_at = self._epoch_at = time.monotonic()
        use_threads(spec.threads)
        provide_fonts()
        super().__init__(overrides=overrides(spec))
        self.bfloat16 = self.device.type == "cpu" and wants_bfloat16(spec.precision)
        self.add_callback("on_train_epoch_start", lambda trainer: trainer.seed_epoch())
        self.add_callback("on_train_epoch_end", lambda trainer: trainer.end_epoch())

    def run(self) -> None:
        """Train to the end, from the checkpoint if there is one; `ema.ema` is the result."""
        with contextlib.suppress(AlreadyTrained):
            self.train()
        # What the passes need, whether it acted in the training or not.
        add_head_dropout(self.ema.ema, self.spec.dropout)

    def setup_model(self) -> None:
        """Build the network from its base."""
        kind = MixedPrecisionModel if self.bfloat16 else DetectionModel
        torch.manual_seed(self.spec.params.seed)
        base = str(self.spec.base_package or self.spec.base)
        self.model = new_model(self.spec.classes, base, self.spec.downloads, kind=kind)
        add_head_dropout(self.model, self.spec.training_dropout)
        if self.bfloat16:
            self.model = self.model.to(memory_format=torch.channels_last)

    def set_model_attributes(self) -> None:
        """Give the network what its loss reads; its classes it has already."""
        self.model.args = self.args

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> Any:
        """Return Ultralytics' loader, which fills its batches or draws by rarity if asked to."""
        loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
        params = self.spec.params
        if mode != "train" or not (params.balance or params.iterations):
            return loader
        images = loader.dataset.labels
        factors = None
        if params.balance:
            factors = repeat_factors([image["cls"].ravel().astype(int) for image in images])
        # Ultralytics takes no sampler: this is the place of the one that it made itself.
        batches = loader.batch_sampler.sampler
        batches.sampler = FullBatchSampler(
            len(images),
            params.batch,
            loader.generator,
            min_batches=MIN_BATCHES if params.iterations else 1,
            factors=factors,
        )
        return loader

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Return Ultralytics' data set; where no image needs a square, batches are no squares."""
        dataset = super().build_dataset(img_path, mode, batch)
        if mode == "train":
            shapes = [image["shape"] for image in dataset.labels]
            # Ultralytics' own `rect` makes a shape of each batch, and then cannot shuffle.
            dataset.rect = True
            dataset.batch = np.zeros(len(shapes), dtype=int)
            dataset.batch_shapes = np.array([batch_shape(shapes, dataset.imgsz)])
        return dataset

    def resume_training(self, ckpt: None) -> None:
        """Go on from our own checkpoint, if there is one."""
        del ckpt
        self.ema.decay = _average_decay
        path = self.spec.work / CHECKPOINT
        if not path.exists():
            return
        saved = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.ema.ema.load_state_dict(saved["ema"])
        self.ema.updates = saved["updates"]
        self.optimizer.load_state_dict(saved["optimizer"])
        self.history = saved["history"]
        self.n_iterations = saved["n_iterations"]
        self.seconds = saved["seconds"]
        self.start_epoch = saved["epoch"] + 1
        if saved["ended"]:
            raise AlreadyTrained

    def seed_epoch(self) -> None:
        """Make an epoch's order and augmentation depend on its number, not on what ran before."""
        seed = self.spec.params.seed * 100_003 + self.epoch
        torch_utils.init_seeds(seed, deterministic=True)
        self.train_loader.generator.manual_seed(seed)
        # A new iterator draws from the generator, so every epoch gets one, not only the first.
        self.train_loader.reset()
        self._epoch_at = time.monotonic()

    def optimizer_step(self) -> None:
        """Make a step, and count it; where iterations are counted, the last one ends it all."""
        total = self.spec.params.iterations
        if total is not None:
            share = learning_rate_share(self.n_iterations, total)
            for group in self.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * share
        super().optimizer_step()
        self.n_iterations += 1
        self.stop = self.n_iterations == total

    def end_epoch(self) -> None:
        """Keep the losses and tell how far we are."""
        for name, value in self.tloss.items():
            self.history.setdefault(name, []).append(float(value))
        self.seconds += time.monotonic() - self._epoch_at
        unit, done, total = "epoch", self.epoch + 1, self.epochs
        if self.spec.params.iterations is not None:
            unit, done, total = "iteration", self.n_iterations, self.spec.params.iterations
        loss = sum(losses[-1] for losses in self.history.values())
        message = f"{unit} {done} of {total}, loss {loss:.3f}"
        self.report(Progress(fraction=done / total, message=message))

    def validate(self) -> tuple[dict[str, float], float]:
        """Skip the measurement on val: no epoch is chosen by it."""
        return {}, 0.0

    def final_eval(self) -> None:
        """Leave the measurement to `evaluate`."""

    def save_model(self) -> bool:
        """Write the checkpoint: beside its place first, so that there is never half of one."""
        now = time.monotonic()
        if not self.stop and now - self._checkpoint_at < self.spec.checkpoint_every_s:
            return False
        self._checkpoint_at = now
        saved = {
            "epoch": self.epoch,
            "ended": bool(self.stop),
            "model": self.model.state_dict(),
            "ema": self.ema.ema.state_dict(),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "n_iterations": self.n_iterations,
            "seconds": self.seconds,
        }
        path = self.spec.work / CHECKPOINT
        beside = path.with_suffix(".tmp")
        torch.save(saved, beside)
        beside.replace(path)
        return True


def use_threads(threads: int) -> None:
    """Give this process so many threads, 0 for all cores; Ultralytics would leave one core idle."""
    n_threads = threads or usable_cores()
    # Read when Ultralytics chooses the device, by then overruling what torch was told.
    torch_utils.NUM_THREADS = n_threads
    torch.set_num_threads(n_threads)


def wants_bfloat16(precision: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether to train in bfloat16 on this CPU: `auto` asks for its instructions."""
    if precision != "auto":
        return precision == "bfloat16"
    if not cpuinfo.exists():
        return False
    flags = next(
        (line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), ""
    )
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags.split())


def _average_decay(n_updates: int) -> float:
    return AVERAGE_DECAY * (1 - math.exp(-n_updates / AVERAGE_RAMP))


def _as_float32(output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return output.float()
    if isinstance(output, dict):
        return {key: _as_float32(value) for key, value in output.items()}
    return [_as_float32(value) for value in output]
