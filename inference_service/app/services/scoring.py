"""Scoring of stored images into prediction shards and the vector index."""

import hashlib
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, compress, islice

from inference_service.app.core.ahead import read_ahead, work_ahead
from inference_service.app.core.images import decode_image
from inference_service.app.core.ports import Gateway
from inference_service.app.core.runtime import DetectionOptions, DetectorRuntime
from inference_service.app.core.scored import Picture, score_pictures, without_boxes
from inference_service.app.models.schemas import ScoredPart, ScoringPart
from inference_service.app.services.index import Index
from inference_service.app.services.loaded import LoadedModel
from shared.cores import usable_cores
from shared.errors import NotFound
from shared.models.data import ImageView, Split
from shared.models.registry import ScoringCreate
from shared.objects.port import ObjectStore
from shared.predictions import (
    ScoredImage,
    has_shard,
    read_shard,
    scored_keys,
    shard_prefix,
    write_shard,
)

SHARD_IMAGES = 64
# What a worker takes at a time: a small pool keeps several busy, too.
PART_IMAGES = 4 * SHARD_IMAGES
DECODERS = min(4, usable_cores())
# Decoded at a time: photos of 100 megapixels take 300 MB each, and the next chunk waits beside it.
# Cut from the start of each shard, so that a restart meets equal batches and gets equal numbers.
CHUNK_IMAGES = 8
# Of large images there are fewer: those of the chunks in work, and of the next, are in memory.
CHUNK_PIXELS = 32_000_000
# Some threads' chunks are in the engine while the others' boxes are drawn again and measured.
# Measured with an engine of 4 ms an image: 78, 104 and 126 images/s with one, two and three.
SCORERS = 3

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
    index: Index
    loaded: LoadedModel
    max_pixels: float

    def plan(self, project: str, request: ScoringCreate) -> list[ScoringPart]:
        """Return the images that this version did not score yet, in parts.

        Asked for consistency, images that were scored without it are scored again; `settle` takes
        them out of their older shards in the end.

        Raises:
            BackendUnavailable: a store or the gateway does not answer.
        """
        version = request.model_version
        # The base model's boxes are thrown away.
        consistency = request.consistency and version is not None
        known = scored_keys(self.store, project, version, consistency=consistency)
        return [
            part
            for split in dict.fromkeys(request.splits)
            for part in self._parts(project, split, request, known)
        ]

    def settle(self, project: str, version: int) -> None:
        """Take what was scored again with consistency out of its older shards.

        Raises:
            BackendUnavailable: the store does not answer.
        """
        newest = scored_keys(self.store, project, version, consistency=True)
        for key in list(self.store.list(shard_prefix(project, version))):
            images = list(read_shard(self.store, key))
            rest = [s for s in images if newest.get(s.image_id, key) == key]
            if not rest:
                self.store.delete(key)
            elif len(rest) < len(images):
                write_shard(self.store, key, rest)

    def _parts(
        self, project: str, split: Split, request: ScoringCreate, known: Container[str]
    ) -> Iterator[ScoringPart]:
        """Cut ALL images of a split into shards first, so that what is known moves no border."""
        images = self.gateway.iter_images(project, split=split)
        after: str | None = None
        while piece := list(islice(images, PART_IMAGES)):
            wanted = [not (request.unlabelled_only and image.labelled) for image in piece]
            new = [w and i.id not in known for i, w in zip(piece, wanted, strict=True)]
            cut = range(0, len(piece), SHARD_IMAGES)
            shards = (
                tuple(i.id for i in compress(piece[n : n + SHARD_IMAGES], new[n:])) for n in cut
            )
            yield ScoringPart(
                model_version=request.model_version,
                n_passes=request.n_passes,
                consistency=request.consistency,
                split=split,
                after=after,
                shards=tuple(ids for ids in shards if ids),
                n_known=sum(wanted) - sum(new),
            )
            after = piece[-1].id

    def score_part(self, project: str, part: ScoringPart, progress: Progress) -> ScoredPart:
        """Score the images of a part that no shard holds yet.

        Shards are the same images after a restart: what was lost is made again, equal.

        Raises:
            UnknownModel: the project has no such version.
            BackendUnavailable: a store, the registry or the gateway does not answer.
        """
        version = part.model_version
        shards = [
            shard
            for shard in self._shards(project, part)
            if not has_shard(
                self.store,
                shard.key(project, version),
                consistency=part.consistency and version is not None,
            )
        ]
        n_done = part.n_images - sum(len(shard.images) for shard in shards)
        runtime = self.loaded.get(project, version) if shards else None
        written: Future[None] | None = None
        with ThreadPoolExecutor(1, "write") as writer:
            for shard, scored in self._scored(runtime, shards, part):
                if written is not None:
                    written.result()
                written = writer.submit(self._keep, project, version, shard, scored)
                n_done += len(scored)
                progress(n_done / part.n_images, f"{n_done} of {part.n_images} images")
            if written is not None:
                written.result()
        return ScoredPart(n_scored=part.n_images, n_known=part.n_known)

    def _shards(self, project: str, part: ScoringPart) -> list[Shard]:
        ids = set(chain.from_iterable(part.shards))
        found: dict[str, ImageView] = {}
        images = self.gateway.iter_images(project, split=part.split, after=part.after)
        while len(found) < len(ids):
            image = next(images, None)
            if image is None:
                msg = f"unknown image: {min(ids - found.keys())!r} of split {part.split!r}"
                raise NotFound(msg)
            if image.id in ids:
                found[image.id] = image
        return [Shard(part.split, tuple(found[i] for i in shard)) for shard in part.shards]

    def _scored(
        self, runtime: DetectorRuntime | None, shards: Sequence[Shard], part: ScoringPart
    ) -> Iterator[tuple[Shard, list[ScoredImage]]]:
        options = DetectionOptions(n_passes=part.n_passes)
        consistency = part.consistency and part.model_version is not None
        chunks = [(shard, chunk) for shard in shards for chunk in _chunks(shard.images)]

        def read(image: ImageView) -> Picture:
            pixels = decode_image(self.store.get(image.key), self.max_pixels, image.name)
            return Picture(image.id, part.split, pixels)

        def score(pictures: Sequence[Picture]) -> list[ScoredImage]:
            assert runtime is not None  # noqa: S101 - there are shards
            return score_pictures(runtime, pictures, options, consistency=consistency)

        scored: list[ScoredImage] = []
        decoded = read_ahead([chunk for _, chunk in chunks], read, DECODERS)
        # One that is larger than a chunk may be takes the place of several.
        huge = any(i.width * i.height > CHUNK_PIXELS for shard in shards for i in shard.images)
        found = work_ahead(decoded, score, 1 if huge else SCORERS)
        for (shard, _), images in zip(chunks, found, strict=True):
            scored += images
            if len(scored) == len(shard.images):
                yield shard, scored
                scored = []

    def _keep(
        self, project: str, version: int | None, shard: Shard, scored: Sequence[ScoredImage]
    ) -> None:
        images = [without_boxes(s) for s in scored] if version is None else scored
        # Into the index first: an image that a shard holds is never looked at again.
        self.index.add(project, version, images)
        write_shard(self.store, shard.key(project, version), images)


def _chunks(images: Sequence[ImageView]) -> Iterator[Sequence[ImageView]]:
    """Yield a shard's images a few at a time, those of like shape together: one batch each."""
    chunk: list[ImageView] = []
    n_pixels = 0
    for image in sorted(images, key=lambda image: (image.width / image.height, image.id)):
        n_pixels += image.width * image.height
        if chunk and (len(chunk) == CHUNK_IMAGES or n_pixels > CHUNK_PIXELS):
            yield chunk
            chunk, n_pixels = [], image.width * image.height
        chunk.append(image)
    if chunk:
        yield chunk
