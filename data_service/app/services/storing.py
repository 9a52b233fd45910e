"""First step of an ingestion: every image decoded and stored once, in small transactions."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from data_service.app.core.boxes import OtherSize, PictureSize, annotations_of, unit_transform
from data_service.app.core.formats.parsed import Parsed, RawImage
from data_service.app.core.images import DecodedImage, decode_image, max_file_bytes
from data_service.app.core.tree import FileTree
from data_service.app.models.tables import ImageRow
from shared.database import Database
from shared.images import BadImage
from shared.models.data import DuplicatePair, Rejection, RejectionReason, Split
from shared.models.geometry import Annotation
from shared.objects.port import ObjectStore

Progress = Callable[[float, str], None]

BATCH = 50
# The files of a batch are in memory together.
BATCH_BYTES = 64 << 20


@dataclass(frozen=True)
class SeenImage:
    """One image of a source that is stored, now or before.

    Attributes:
        id: SHA-256 of its bytes.
        name: of its file, without folders.
        annotations: None where it is unlabelled.
        wanted: split that the source gives it.
        added: by this ingestion.
    """

    id: str
    name: str
    annotations: tuple[Annotation, ...] | None
    wanted: Split | None
    added: bool


@dataclass
class Seen:
    """All images of a source, by id, and what was found on the way."""

    images: dict[str, SeenImage] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)
    crossing: list[DuplicatePair] = field(default_factory=list)
    n_known: int = 0

    def reject(self, name: str, reason: RejectionReason, detail: str) -> None:
        """Note one thing that was not taken."""
        self.rejected.append(Rejection(name=name, reason=reason, detail=detail))


@dataclass(frozen=True)
class _File:
    raw: RawImage
    id: str
    data: bytes


@dataclass(frozen=True)
class ImageStorage:
    """Stores the images of one ingestion."""

    database: Database
    store: ObjectStore
    project: str
    ingestion_id: str
    max_megapixels: float

    def store_all(
        self, tree: FileTree, parsed: Parsed, class_ids: Mapping[str, int], progress: Progress
    ) -> Seen:
        """Store what is not stored yet; running it again goes on where it was killed."""
        seen = Seen()
        n_done = 0
        for batch in batches(tree, parsed.images):
            progress(n_done / len(parsed.images), f"{n_done} of {len(parsed.images)} images")
            files = list(self._read(tree, batch, seen))
            rows = self._rows(files, seen)
            for file in files:
                if file.id in rows:
                    self._note(file.raw, rows[file.id], class_ids, seen)
            n_done += len(batch)
        return seen

    def _read(self, tree: FileTree, batch: Sequence[RawImage], seen: Seen) -> Iterator[_File]:
        limit = max_file_bytes(self.max_megapixels)
        for raw in batch:
            try:
                size = tree.size(raw.path)
                if size > limit:
                    seen.reject(raw.path, "oversized", f"{size} bytes, the limit is {limit}")
                    continue
                data = tree.read(raw.path)
            except OSError as exc:
                seen.reject(raw.path, "unreadable", f"{type(exc).__name__}: {exc.strerror}")
                continue
            yield _File(raw, hashlib.sha256(data).hexdigest(), data)

    def _rows(self, files: Sequence[_File], seen: Seen) -> dict[str, ImageRow]:
        known = self._known({file.id for file in files})
        new: dict[str, ImageRow] = {}
        for file in files:
            if file.id in known or file.id in new:
                continue
            try:
                decoded = decode_image(file.data, file.raw.path, self.max_megapixels)
            except BadImage as exc:
                seen.reject(file.raw.path, exc.reason, exc.detail)
                continue
            new[file.id] = self._put(file, decoded)
        return known | self._insert(new)

    def _known(self, ids: set[str]) -> dict[str, ImageRow]:
        mine = (ImageRow.project == self.project, ImageRow.id.in_(ids))
        with self.database.transaction() as session:
            # Left behind by an ingestion that never ended.
            session.execute(
                update(ImageRow)
                .where(*mine, ImageRow.split.is_(None))
                .values(ingestion_id=self.ingestion_id)
            )
            return {row.id: row for row in session.scalars(select(ImageRow).where(*mine))}

    def _insert(self, rows: Mapping[str, ImageRow]) -> dict[str, ImageRow]:
        if not rows:
            return {}
        try:
            with self.database.transaction() as session:
                session.add_all(rows.values())
        except IntegrityError:
            # Another ingestion stored one of them in between: the rest is still to insert.
            known = self._known(set(rows))
            left = {i: _copy(row) for i, row in rows.items() if i not in known}
            return known | self._insert(left)
        return dict(rows)

    def _put(self, file: _File, decoded: DecodedImage) -> ImageRow:
        base, name = f"projects/{self.project}", f"{file.id[:2]}/{file.id}"
        key = f"{base}/images/{name}{decoded.rendition_extension}"
        original_key = key
        if decoded.rendition is not None:
            original_key = f"{base}/originals/{name}{decoded.original_extension}"
            self.store.put(original_key, file.data)
        content_type = "image/png" if decoded.rendition_extension == ".png" else "image/jpeg"
        content = file.data if decoded.rendition is None else decoded.rendition
        self.store.put(key, content, content_type)
        thumbnail_key = f"{base}/thumbnails/{name}.jpg"
        self.store.put(thumbnail_key, decoded.thumbnail, "image/jpeg")
        return ImageRow(
            project=self.project,
            id=file.id,
            name=PurePosixPath(file.raw.path).name,
            width=decoded.width,
            height=decoded.height,
            orientation=decoded.orientation,
            phash=None if decoded.phash is None else f"{decoded.phash:016x}",
            key=key,
            original_key=original_key,
            thumbnail_key=thumbnail_key,
            ingestion_id=self.ingestion_id,
        )

    def _note(self, raw: RawImage, row: ImageRow, class_ids: Mapping[str, int], seen: Seen) -> None:
        annotations = _annotations(raw, row, class_ids, seen)
        name = PurePosixPath(raw.path).name
        added = row.ingestion_id == self.ingestion_id
        image = SeenImage(row.id, name, annotations, raw.split, added)
        before = seen.images.get(row.id)
        if before is not None:
            seen.n_known += 1
            image = _merged(before, image, raw.path, seen)
        elif not added:
            seen.n_known += 1
        seen.images[row.id] = image


def _annotations(
    raw: RawImage, row: ImageRow, class_ids: Mapping[str, int], seen: Seen
) -> tuple[Annotation, ...] | None:
    if raw.boxes is None:
        return None
    try:
        to_unit = unit_transform(PictureSize(row.width, row.height, row.orientation), raw.box_size)
    except OtherSize as exc:
        seen.reject(raw.path, "bad_annotation", f"the annotation {exc}")
        return None
    taken, rejected = annotations_of(raw.path, raw.boxes, to_unit, class_ids)
    seen.rejected.extend(rejected)
    # An image whose objects could all not be taken is not one with nothing on it.
    return None if raw.boxes and not taken else tuple(taken)


def _merged(before: SeenImage, image: SeenImage, path: str, seen: Seen) -> SeenImage:
    wanted = before.wanted
    if before.wanted and image.wanted and before.wanted != image.wanted:
        wanted = image.wanted if before.wanted == "train" else before.wanted
        seen.crossing.append(
            DuplicatePair(
                first=before.name,
                second=image.name,
                distance=0,
                crosses=True,
                splits=(before.wanted, image.wanted),
            )
        )
    annotations = image.annotations if before.annotations is None else before.annotations
    if image.annotations is not None and image.annotations != annotations:
        detail = f"the same image as {before.name!r} with other labels, which are kept"
        seen.reject(path, "bad_annotation", detail)
    return replace(before, annotations=annotations, wanted=wanted or image.wanted)


def batches(tree: FileTree, images: Sequence[RawImage]) -> Iterator[Sequence[RawImage]]:
    """Yield the images, at most `BATCH` at once and `BATCH_BYTES`, but a larger one alone."""
    batch: list[RawImage] = []
    n_bytes = 0
    for raw in images:
        size = _size(tree, raw)
        if batch and (len(batch) == BATCH or n_bytes + size > BATCH_BYTES):
            yield batch
            batch, n_bytes = [], 0
        batch.append(raw)
        n_bytes += size
    if batch:
        yield batch


def _size(tree: FileTree, raw: RawImage) -> int:
    try:
        return tree.size(raw.path)
    except OSError:
        return 0  # reading it says what is wrong


def _copy(row: ImageRow) -> ImageRow:
    columns = ImageRow.__table__.columns.keys()
    return ImageRow(**{name: getattr(row, name) for name in columns})
