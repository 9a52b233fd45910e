"""An ingestion from start to report; killed and run again it ends the same."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import structlog
from sqlalchemy import func, select, update

from data_service.app.core.formats.detect import read_source
from data_service.app.core.formats.parsed import Parsed
from data_service.app.core.tree import FileTree
from data_service.app.models.tables import ImageRow
from data_service.app.services.duplicates import Groups, find_groups, load_hashed, save_groups
from data_service.app.services.images import hide_labels
from data_service.app.services.projects import get_project, pin_classes
from data_service.app.services.source import Reader, Remote, Source, is_remote, open_source
from data_service.app.services.splits import Candidate, SplitPlan, assign_splits
from data_service.app.services.storing import ImageStorage, Seen, SeenImage
from data_service.app.services.uploads import discard_upload
from data_service.app.services.versions import create_version
from shared.database import Database
from shared.errors import BadRequest
from shared.models.data import (
    SPLITS,
    DatasetVersionCreate,
    DuplicatePair,
    IngestionCreate,
    IngestionReport,
    LabelledImage,
    ProjectView,
    Split,
)
from shared.objects.port import ObjectStore
from shared.settings import Settings

log = structlog.stdlib.get_logger()

Progress = Callable[[float, str], None]

# Of the whole: decoding and storing takes nearly all of the time.
_STORED = 0.9
# Of the whole, where files are downloaded first.
_DOWNLOADED = 0.7
_CHUNK = 500
# A report must fit its job's row; a film of one scene has more pairs than anybody reads.
_MAX_PAIRS = 10_000


class EmptySource(BadRequest):
    """It holds no image, and nothing that could be named as refused."""


@dataclass(frozen=True)
class Ingestion:
    """One job's request; the id makes a second attempt find what the first one did."""

    id: str
    project: str
    request: IngestionCreate


@dataclass(frozen=True)
class Parts:
    """What every ingestion needs."""

    settings: Settings
    database: Database
    store: ObjectStore
    remote: Remote


def ingest_once(parts: Parts, ingestion: Ingestion, progress: Progress) -> IngestionReport:
    """Ingest, keep the report and remove the upload; run again it returns the kept report.

    An upload whose ingestion fails or is cancelled stays, to be ingested again.

    Raises:
        AppError: as `ingest` does.
    """
    store, request = parts.store, ingestion.request
    key = f"projects/{ingestion.project}/ingestions/{ingestion.id}.json"
    if store.exists(key):
        report = IngestionReport.model_validate_json(store.get(key))
    else:
        report = ingest(parts, ingestion, progress)
        store.put(key, report.model_dump_json().encode(), "application/json")
    # Only now: an attempt that was killed before this reads the upload again.
    if upload_id := request.upload_id or request.urls_upload_id:
        discard_upload(parts.database, store, ingestion.project, upload_id)
    return report


def ingest(parts: Parts, ingestion: Ingestion, progress: Progress) -> IngestionReport:
    """Ingest a source: store its images, group them, split them, keep their labels.

    Raises:
        UnknownProject: no project has this name.
        BadRequest, Forbidden, UnknownPath, UnknownUpload: as `check_request`.
        EmptySource: there is nothing to take.
        BackendUnavailable: a store does not answer.
    """
    settings, database, store = parts.settings, parts.database, parts.store
    project = get_project(database, ingestion.project)
    downloaded = _DOWNLOADED if is_remote(ingestion.request) else 0.0

    def download_progress(share: float, message: str) -> None:
        progress(share * downloaded, message)

    def work_progress(share: float, message: str) -> None:
        progress(downloaded + share * (1 - downloaded), message)

    work = _Work(database, store, ingestion, project, work_progress)
    reader = Reader(
        settings, database, store, parts.remote, project.name, ingestion.id, download_progress
    )
    with open_source(reader, ingestion.request) as source:
        parsed = read_source(source.tree, ingestion.request.format)
        parsed.rejected[:0] = source.rejected
        for name in source.tree.unsupported:
            parsed.reject(name, "unsupported", "a kind of file that is not read")
        _require_something(source, parsed)
        return work.run(settings, source.tree, parsed)


def _require_something(source: Source, parsed: Parsed) -> None:
    if parsed.images or parsed.rejected:
        return
    n_files = len(source.tree.names)
    what = f"no image among the {n_files} files" if n_files else "nothing"
    msg = f"{what} {source.place}"
    raise EmptySource(msg)


@dataclass(frozen=True)
class _Work:
    database: Database
    store: ObjectStore
    ingestion: Ingestion
    project: ProjectView
    progress: Progress

    def run(self, settings: Settings, tree: FileTree, parsed: Parsed) -> IngestionReport:
        classes = pin_classes(self.database, self.project.name, parsed.classes)
        storage = ImageStorage(
            self.database,
            self.store,
            self.project.name,
            self.ingestion.id,
            settings.max_image_megapixels,
        )
        class_ids = {name: i for i, name in enumerate(classes)}
        seen = storage.store_all(
            tree, parsed, class_ids, lambda f, message: self.progress(f * _STORED, message)
        )
        self.progress(_STORED, "looking for near-duplicates")
        groups = self._group(seen)
        self.progress(0.93, "drawing splits")
        splits = self._split(parsed, groups, seen)
        self.progress(0.95, "keeping labels")
        version = self._label(seen, splits)
        report = self._report(parsed, seen, groups, splits)
        self.progress(1.0, f"{report.n_added} images added, {len(report.rejected)} rejections")
        return report.model_copy(update={"dataset_version": version, "classes": classes})

    def _group(self, seen: Seen) -> Groups:
        images = load_hashed(self.database, self.project.name)
        mine = {i.id for i in images if i.ingestion_id == self.ingestion.id}
        groups = find_groups(images, frozenset(mine | seen.images.keys()))
        save_groups(self.database, self.project.name, groups)
        return groups

    def _split(self, parsed: Parsed, groups: Groups, seen: Seen) -> dict[str, Split]:
        """Draw over all that this ingestion added, so that a second attempt draws the same."""
        candidates = [
            _candidate(image_id, groups.group_of.get(image_id, image_id), seen.images.get(image_id))
            for image_id, image in groups.images.items()
            if image.ingestion_id == self.ingestion.id
        ]
        plan = SplitPlan(
            fractions=self.project.splits,
            seed=self.project.seed,
            declared=parsed.declared,
            forced=self.ingestion.request.split,
            settled=self._settled(groups),
            drawn=self._drawn_before(),
        )
        assignment = assign_splits(candidates, plan)
        self._save_splits(assignment.splits, drawn=assignment.drawn)
        return {
            image.id: cast(Split, image.split)
            for image in load_hashed(self.database, self.project.name)
            if image.split is not None
        }

    def _settled(self, groups: Groups) -> dict[str, Split]:
        settled: dict[str, Split] = {}
        for image_id, group in groups.group_of.items():
            image = groups.images[image_id]
            if image.split is not None and image.ingestion_id != self.ingestion.id:
                settled.setdefault(group, cast(Split, image.split))
        return settled

    def _drawn_before(self) -> dict[Split, int]:
        with self.database.transaction() as session:
            rows = session.execute(
                select(ImageRow.split, func.count())
                .where(
                    ImageRow.project == self.project.name,
                    ImageRow.ingestion_id != self.ingestion.id,
                    ImageRow.drawn,
                    ImageRow.split.is_not(None),
                )
                .group_by(ImageRow.split)
            ).all()
        return {cast(Split, split): count for split, count in rows}

    def _save_splits(self, splits: dict[str, Split], *, drawn: bool) -> None:
        by_split: dict[Split, list[str]] = {split: [] for split in SPLITS}
        for image_id, split in splits.items():
            by_split[split].append(image_id)
        for split, ids in by_split.items():
            for start in range(0, len(ids), _CHUNK):
                with self.database.transaction() as session:
                    session.execute(
                        update(ImageRow)
                        .where(
                            ImageRow.project == self.project.name,
                            ImageRow.id.in_(ids[start : start + _CHUNK]),
                            ImageRow.split.is_(None),
                        )
                        .values(split=split, drawn=drawn)
                    )

    def _label(self, seen: Seen, splits: dict[str, Split]) -> int | None:
        labels: list[LabelledImage] = []
        for image in seen.images.values():
            if image.annotations is None:
                continue
            if self.ingestion.request.as_oracle and splits[image.id] == "train":
                hide_labels(self.store, self.project.name, image.id, image.annotations)
                self.progress(0.95, "keeping labels as ground truth")
            else:
                labels.append(LabelledImage(image_id=image.id, annotations=image.annotations))
        if not labels:
            return None
        request = DatasetVersionCreate(
            round_id=f"ingestion-{self.ingestion.id}", labels=tuple(labels)
        )
        return create_version(self.database, self.store, self.project.name, request).version

    def _report(
        self, parsed: Parsed, seen: Seen, groups: Groups, splits: dict[str, Split]
    ) -> IngestionReport:
        added = [image for image in seen.images.values() if image.added]
        counts = Counter(splits[image.id] for image in added)
        return IngestionReport(
            project=self.project.name,
            format=parsed.format,
            n_files=len(parsed.images),
            n_added=len(added),
            n_known=seen.n_known,
            n_boxes=sum(len(image.annotations or ()) for image in seen.images.values()),
            n_by_split={split: counts[split] for split in SPLITS},
            rejected=(*parsed.rejected, *seen.rejected),
            near_duplicates=_pairs(seen, groups, splits),
            dataset_version=None,
            classes=(),
        )


def _candidate(image_id: str, group: str, image: SeenImage | None) -> Candidate:
    if image is None:
        return Candidate(image_id, group, None, None)
    classes = None
    if image.annotations is not None:
        classes = frozenset(a.class_id for a in image.annotations)
    return Candidate(image_id, group, classes, image.wanted)


def _pairs(seen: Seen, groups: Groups, splits: dict[str, Split]) -> tuple[DuplicatePair, ...]:
    pairs = list(seen.crossing)
    for ids in groups.pairs:
        if not splits.keys() >= set(ids[:2]):
            continue  # one is still being ingested by another job, which will report the pair
        first, second = sorted(ids[:2], key=lambda i: (groups.images[i].name, i))
        pairs.append(
            DuplicatePair(
                first=groups.images[first].name,
                second=groups.images[second].name,
                distance=ids[2],
                crosses=splits[first] != splits[second],
                splits=(splits[first], splits[second]),
            )
        )
    if len(pairs) > _MAX_PAIRS:
        log.warning("ingestion.pairs_left_out", n_pairs=len(pairs), n_reported=_MAX_PAIRS)
    pairs.sort(key=lambda pair: (not pair.crosses, pair.first, pair.second))
    return tuple(pairs[:_MAX_PAIRS])
