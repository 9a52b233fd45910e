"""Scoring of stored images into prediction shards and the vector index."""

import hashlib
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from inference_service.app.core.images import decode_image
from inference_service.app.core.ports import Gateway, Load
from inference_service.app.core.runtime import DetectionOptions, DetectorRuntime
from inference_service.app.core.scored import Picture, score_pictures, without_boxes
from inference_service.app.services.local_models import LocalModels
from shared.models.data import ImageView, Split
from shared.models.registry import ScoringCreate, ScoringResult
from shared.objects.port import ObjectStore
from shared.predictions import ScoredImage, read_shard, scored_keys, shard_prefix, write_shard
from shared.vectors.port import VectorRecord, VectorStore

SHARD_IMAGES = 64
# Decoded at a time: photos of 100 megapixels take 300 MB each, and the next chunk waits beside it.
# Cut from the start of each shard, so that a restart meets equal batches and gets equal numbers.
CHUNK_IMAGES = 8

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Shard:
    """Images that are scored together; the same images always have the same key."""

    split: Split
    images: tuple[ImageView, ...]

    def key(self, project: str, model_version: int | None) -> str:
        """Return the object key."""
        ids = "".join(image.id for image in self.images)
        shard_id = hashlib.sha256(ids.encode()).hexdigest()[:16]
        return f"{shard_prefix(project, model_version)}{self.split}-{shard_id}.parquet"


@dataclass(frozen=True)
class Scorer:
    """Scores stored images with a model version, or embeds them with the base model."""

    gateway: Gateway
    store: ObjectStore
    vectors: VectorStore
    models: LocalModels
    load: Load
    load_base: Callable[[], DetectorRuntime]
    max_pixels: float

    def score(self, project: str, request: ScoringCreate, progress: Progress) -> ScoringResult:
        """Score every image that this version did not score yet.

        Shards are the same images after a restart: what was lost is made again, equal. Asked for
        consistency, images that were scored without it are scored again.

        Raises:
            UnknownModel: the project has no such version.
            BackendUnavailable: a store, the registry or the gateway does not answer.
        """
        progress(0.0, "listing images")
        version = request.model_version
        # The base model's boxes are thrown away.
        consistency = request.consistency and version is not None
        known = scored_keys(self.store, project, version, consistency=consistency)
        stale = scored_keys(self.store, project, version) if consistency else {}
        shards, n_known = self._plan(project, request, known)
        n_total, n_done, started = sum(len(s.images) for s in shards), 0, time.monotonic()
        runtime = self._runtime(project, version) if shards else None
        options = DetectionOptions(n_passes=request.n_passes)
        for shard, scored in self._scored(runtime, shards, (options, consistency)):
            held = {stale[i.id] for i in shard.images if i.id in stale}
            self._take_out(shard, held - {shard.key(project, version)})
            self._keep(project, version, shard, scored)
            n_done += len(scored)
            rate = n_done / (time.monotonic() - started)
            progress(n_done / n_total, f"{n_done} of {n_total} images, {rate:.1f} images/s")
        return ScoringResult(
            project=project,
            model_version=version,
            n_scored=n_done,
            n_known=n_known,
            images_per_s=n_done / max(time.monotonic() - started, 1e-9),
        )

    def _plan(
        self, project: str, request: ScoringCreate, known: Container[str]
    ) -> tuple[list[Shard], int]:
        """Cut ALL images of a split into pieces first, so that what is known moves no border."""
        shards: list[Shard] = []
        n_known = 0
        for split in dict.fromkeys(request.splits):
            images = sorted(self.gateway.iter_images(project, split=split), key=lambda i: i.id)
            for start in range(0, len(images), SHARD_IMAGES):
                wanted = [
                    i
                    for i in images[start : start + SHARD_IMAGES]
                    if not (request.unlabelled_only and i.labelled)
                ]
                new = tuple(i for i in wanted if i.id not in known)
                n_known += len(wanted) - len(new)
                if new:
                    shards.append(Shard(split, new))
        return shards, n_known

    def _runtime(self, project: str, version: int | None) -> DetectorRuntime:
        if version is None:
            return self.load_base()
        return self.load(self.models.fetch(project, version))

    def _scored(
        self,
        runtime: DetectorRuntime | None,
        shards: Sequence[Shard],
        how: tuple[DetectionOptions, bool],
    ) -> Iterator[tuple[Shard, list[ScoredImage]]]:
        options, consistency = how
        scored: list[ScoredImage] = []
        for shard, pictures in self._decoded(shards):
            assert runtime is not None  # noqa: S101 - there are shards
            scored += score_pictures(runtime, pictures, options, consistency=consistency)
            if len(scored) == len(shard.images):
                yield shard, scored
                scored = []

    def _decoded(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, list[Picture]]]:
        """Read and decode the next chunk of a shard while the model works on this one."""
        chunks = [
            (shard, shard.images[start : start + CHUNK_IMAGES])
            for shard in shards
            for start in range(0, len(shard.images), CHUNK_IMAGES)
        ]
        with ThreadPoolExecutor(1, "decode") as pool:
            waiting = [pool.submit(self._read, *chunk) for chunk in chunks[:1]]
            for index, (shard, _) in enumerate(chunks):
                pictures = waiting.pop().result()
                waiting = [pool.submit(self._read, *c) for c in chunks[index + 1 : index + 2]]
                yield shard, pictures

    def _read(self, shard: Shard, images: Sequence[ImageView]) -> list[Picture]:
        return [
            Picture(i.id, shard.split, decode_image(self.store.get(i.key), self.max_pixels, i.name))
            for i in images
        ]

    def _take_out(self, shard: Shard, keys: Iterable[str]) -> None:
        """Take a shard's images out of older shards: none is ever in two.

        A kill right after it leaves them unscored, which the next start finds.
        """
        again = {image.id for image in shard.images}
        for key in keys:
            rest = [s for s in read_shard(self.store, key) if s.image_id not in again]
            if rest:
                write_shard(self.store, key, rest)
            else:
                self.store.delete(key)

    def _keep(
        self, project: str, version: int | None, shard: Shard, scored: Sequence[ScoredImage]
    ) -> None:
        images = [without_boxes(s) for s in scored] if version is None else scored
        # Into the index first: an image that a shard holds is never looked at again.
        self.vectors.upsert(namespace(project, version), [vector_record(s) for s in images])
        write_shard(self.store, shard.key(project, version), images)


def namespace(project: str, model_version: int | None) -> str:
    """Return the vector namespace of a model version; None is the base model's."""
    return f"{project}-v{model_version or 0}"


def vector_record(scored: ScoredImage) -> VectorRecord:
    """Return the index entry of a scored image."""
    return VectorRecord(scored.image_id, scored.embedding, {"split": scored.split})
