"""Copies of projects, on SQLite and on PostgreSQL."""

import threading
from collections.abc import Callable

import pytest

from data_service.app.models.tables import ProjectRow
from data_service.app.services.copies import copy_project
from data_service.app.services.images import (
    ImageQuery,
    NoGroundTruth,
    ground_truth,
    hide_labels,
    list_images,
)
from data_service.app.services.projects import (
    ProjectExists,
    UnknownProject,
    create_project,
    get_project,
    list_projects,
)
from data_service.app.services.versions import (
    UnknownVersion,
    create_version,
    get_manifest,
    list_versions,
)
from data_service.app.wiring import Dependencies
from data_service.tests.builders import yolo_files
from shared.models.data import (
    DatasetVersionCreate,
    ImageView,
    IngestionReport,
    LabelledImage,
    ProjectCopy,
    ProjectCreate,
    ProjectView,
    SplitFractions,
)
from shared.models.geometry import Annotation
from shared.settings import Settings
from shared.tests.postgres import database_url, postgres_server, postgres_url

__all__ = ["database_url", "postgres_server", "postgres_url"]

IngestFiles = Callable[..., IngestionReport]
BOX = Annotation(class_id=1, xyxy=(0.1, 0.2, 0.3, 0.4))
THIRDS = SplitFractions(val=0.2, gate=0.2, test=0.2)


@pytest.fixture
def settings(settings: Settings, database_url: str) -> Settings:
    return settings.model_copy(update={"database_url": database_url})


def images(deps: Dependencies, project: str, **query: object) -> tuple[ImageView, ...]:
    return list_images(deps.database, project, ImageQuery(**query)).images  # type: ignore[arg-type]


def copied(deps: Dependencies, source: str, name: str, **options: object) -> ProjectView:
    request = ProjectCopy.model_validate({"name": name, **options})
    return copy_project(deps.database, deps.store, source, request)


@pytest.fixture
def hidden(deps: Dependencies, ingest_files: IngestFiles) -> str:
    """A project of ten images with hidden train labels, one of which a round made visible."""
    request = ProjectCreate(name="hidden", splits=THIRDS, seed=5)
    create_project(deps.database, request)
    ingest_files(yolo_files(10), "hidden", as_oracle=True)
    label = LabelledImage(image_id=images(deps, "hidden", split="train")[0].id, annotations=(BOX,))
    close = DatasetVersionCreate(round_id="r1", labels=(label,))
    create_version(deps.database, deps.store, "hidden", close)
    return "hidden"


@pytest.fixture
def open_(deps: Dependencies, ingest_files: IngestFiles) -> str:
    """A project of ten images whose labels are all visible."""
    create_project(deps.database, ProjectCreate(name="open", splits=THIRDS))
    ingest_files(yolo_files(10), "open")
    return "open"


def test_a_copy_has_the_same_images_splits_and_classes_and_only_the_oldest_labels(
    deps: Dependencies, hidden: str
) -> None:
    view = copied(deps, hidden, "again")
    source = get_project(deps.database, hidden)
    assert view.n_by_split == source.n_by_split == {"train": 4, "val": 2, "gate": 2, "test": 2}
    assert (view.classes, view.splits, view.seed) == (source.classes, source.splits, 5)
    assert (source.n_labelled, source.latest_version) == (1, 2)
    assert (view.n_labelled, view.latest_version) == (0, 1)
    as_copied = [
        i.model_copy(update={"labelled": i.split != "train"}) for i in images(deps, hidden)
    ]
    assert list(images(deps, "again")) == as_copied
    assert all(deps.store.exists(i.key) for i in images(deps, "again"))
    first, again = (list_versions(deps.database, p)[0] for p in (hidden, "again"))
    assert again.content_hash == first.content_hash
    assert (again.n_images, again.parent) == (first.n_images, None)
    manifest = get_manifest(deps.database, deps.store, "again", 1)
    assert (manifest.project, manifest.content_hash()) == ("again", first.content_hash)


def test_hidden_labels_are_hidden_in_the_copy_too(deps: Dependencies, hidden: str) -> None:
    copied(deps, hidden, "again")
    pool = images(deps, "again", split="train")
    for image in pool:
        truth = ground_truth(deps.database, deps.store, "again", image.id)
        assert truth == ground_truth(deps.database, deps.store, hidden, image.id)
        assert [a.source for a in truth.annotations] == ["oracle"]


def test_a_copy_can_start_from_a_later_version(deps: Dependencies, hidden: str) -> None:
    view = copied(deps, hidden, "later", dataset_version=2)
    assert (view.n_labelled, view.latest_version) == (1, 1)
    second = list_versions(deps.database, hidden)[1]
    assert list_versions(deps.database, "later")[0].content_hash == second.content_hash


def test_visible_train_labels_can_be_hidden_in_the_copy(deps: Dependencies, open_: str) -> None:
    view = copied(deps, open_, "again", hide_labels=True)
    assert view.n_labelled == 0
    assert list_versions(deps.database, "again")[0].n_images["train"] == 0
    assert {i.split for i in images(deps, "again", labelled=True)} == {"val", "gate", "test"}
    visible = {i.image_id: i for i in get_manifest(deps.database, deps.store, open_, 1).items}
    for image in images(deps, "again", split="train"):
        truth = ground_truth(deps.database, deps.store, "again", image.id)
        assert truth.annotations[0].xyxy == visible[image.id].annotations[0].xyxy
        assert truth.annotations[0].source == "oracle"
    held_out = images(deps, "again", split="test")[0]
    with pytest.raises(NoGroundTruth):
        ground_truth(deps.database, deps.store, "again", held_out.id)
    assert get_project(deps.database, open_).n_labelled == 4


def test_the_copy_goes_its_own_way(deps: Dependencies, hidden: str) -> None:
    copied(deps, hidden, "again")
    image_id = images(deps, "again", split="train")[1].id
    labels = (LabelledImage(image_id=image_id, annotations=(BOX,)),)
    request = DatasetVersionCreate(round_id="r1", labels=labels)
    assert create_version(deps.database, deps.store, "again", request).version == 2
    hide_labels(deps.store, "again", image_id, ())
    assert ground_truth(deps.database, deps.store, hidden, image_id).annotations
    assert get_project(deps.database, hidden).n_labelled == 1


def test_a_project_without_labels_is_copied_without_a_version(deps: Dependencies) -> None:
    view = copied(deps, "farm", "empty")
    assert (view.n_images, view.latest_version, view.classes) == (0, None, ())


def test_unknown_sources_and_taken_names_are_named(deps: Dependencies, hidden: str) -> None:
    with pytest.raises(UnknownProject, match="unknown project: 'nope'"):
        copied(deps, "nope", "again")
    with pytest.raises(UnknownVersion, match="unknown dataset version: 9 of project 'hidden'"):
        copied(deps, hidden, "again", dataset_version=9)
    with pytest.raises(ProjectExists, match="project exists already: 'farm'"):
        copied(deps, hidden, "farm")
    assert [p.name for p in list_projects(deps.database)] == ["farm", "hidden"]


@pytest.mark.parametrize("dies_at", ["objects", "rows"])
def test_a_copy_killed_half_way_is_not_there_and_can_be_made_again(
    deps: Dependencies, hidden: str, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if dies_at == "objects":
            patched.setattr(type(deps.store), "put", die)
        else:
            patched.setattr("data_service.app.services.copies.mark_labelled", die)
        with pytest.raises(KeyboardInterrupt):
            copied(deps, hidden, "again")
    with pytest.raises(UnknownProject):
        get_project(deps.database, "again")
    assert copied(deps, hidden, "again").n_images == 10


def test_of_four_copies_at_once_with_one_name_one_is_made(deps: Dependencies, hidden: str) -> None:
    start = threading.Barrier(4)
    outcomes: list[str] = []

    def make() -> None:
        start.wait()
        try:
            outcomes.append(copied(deps, hidden, "again").name)
        except ProjectExists as exc:
            outcomes.append(str(exc))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["again"] + ["project exists already: 'again'"] * 3
    with deps.database.transaction() as session:
        assert session.query(ProjectRow).count() == 3
