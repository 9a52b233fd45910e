"""Synthetic predictions: what a model might see in ordinary and in changed images."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.models.data import Split
from shared.models.registry import ModelView
from shared.objects.directory import DirectoryStore
from shared.objects.port import ObjectStore
from shared.objects.wiring import object_store
from shared.predictions import ScoredImage, shard_prefix, write_shard
from shared.served import ServedPrediction, drift_row, write_served
from shared.settings import Settings
from shared.thresholds import Thresholds

PROJECT = "digits"
CLASSES = ("one", "two", "three", "four")
N_FEATURES = 64
START = datetime(2026, 1, 1, tzinfo=UTC)


def settings_in(folder: Path) -> Settings:
    return Settings(
        state_dir=folder,
        database_url=f"sqlite:///{folder}/fovea.db",
        object_store_url=f"file:{folder}/objects",
        broker_url="redis://127.0.0.1:1/0",
        gateway_url="http://127.0.0.1:1",
    )


def store_in(folder: Path) -> ObjectStore:
    store = object_store(settings_in(folder))
    assert isinstance(store, DirectoryStore)
    return store


def scored_images(n: int, seed: int, split: Split = "val", shift: float = 0.0) -> list[ScoredImage]:
    """Images of one kind of scene; `shift` darkens them and moves their embeddings."""
    rng = np.random.default_rng(seed)
    return [_scored(rng, split, shift) for _ in range(n)]


def served(images: Sequence[ScoredImage], batch: str | None = None) -> list[ServedPrediction]:
    thresholds = Thresholds.default(len(CLASSES))
    return [
        ServedPrediction(
            prediction_id=f"{batch}-{image.image_id}",
            time=START + timedelta(seconds=index),
            image_id=image.image_id,
            batch=batch,
            row=drift_row(image, thresholds),
        )
        for index, image in enumerate(images)
    ]


def fill(store: ObjectStore, version: int, seed: int = 0) -> None:
    """Write shards of 60 images for each held-out split, and of a pool that is all different."""
    for index, split in enumerate(("val", "gate", "test")):
        images = scored_images(60, seed * 10 + index, split)  # type: ignore[arg-type]
        write_shard(store, f"{shard_prefix(PROJECT, version)}{split}-0.parquet", images)
    pool = scored_images(30, seed * 10 + 9, "train", shift=5.0)
    write_shard(store, f"{shard_prefix(PROJECT, version)}train-0.parquet", pool)


def serve(store: ObjectStore, version: int, images: Sequence[ScoredImage], batch: str) -> None:
    write_served(store, PROJECT, version, served(images, batch))


@dataclass
class RegisteredModels:
    """A registry with one model version, without MLflow."""

    production: int | None = 3
    manifest: str | None = None

    def aliases(self, project: str) -> dict[str, int]:
        assert project == PROJECT
        return {} if self.production is None else {"production": self.production}

    def get(self, project: str, version: int) -> ModelView:
        return ModelView(
            project=project,
            version=version,
            aliases=("production",),
            dataset_version=1,
            round_id=None,
            classes=CLASSES,
            metrics={},
            weights_sha256="0" * 64,
            run_id="run",
            run_url="",
            created_at=START,
        )

    def calibration_json(self, project: str, version: int) -> str | None:
        assert (project, version) == (PROJECT, self.production)
        return self.manifest


def _scored(rng: np.random.Generator, split: Split, shift: float) -> ScoredImage:
    n = int(rng.poisson(5))
    corner = rng.uniform(0, 0.7, (n, 2))
    size = rng.uniform(0.05, 0.3, (n, 2))
    scores = rng.beta(1, 6, (n, len(CLASSES)))
    scores[np.arange(n), rng.choice(len(CLASSES), n, p=(0.5, 0.3, 0.15, 0.05))] = rng.beta(6, 2, n)
    order = np.argsort(-scores.max(axis=1, initial=0))
    spread = 1 / np.sqrt(1 + np.arange(N_FEATURES))
    return ScoredImage(
        image_id=rng.bytes(32).hex(),
        split=split,
        xyxy=_f32(np.concatenate([corner, corner + size], axis=1)[order]),
        class_scores=_f32(scores[order]),
        class_probabilities=np.full((n, len(CLASSES) + 1, 2), 0.2, np.float16),
        entropy=_f32(np.zeros(n)),
        margin=_f32(np.zeros(n)),
        certainty=_f32(np.zeros(n)),
        bald=_f32(np.zeros(n)),
        variance=_f32(np.zeros(n)),
        localisation=_f32(np.zeros(n)),
        inconsistency=_f32(np.zeros(n)),
        embedding=_f32(rng.normal(size=N_FEATURES) * spread + shift),
        brightness=float(rng.normal(0.5 - 0.08 * shift, 0.08)),
        contrast=float(rng.normal(0.2, 0.03)),
        sharpness=float(rng.lognormal(3, 0.4)),
    )


def _f32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32)
