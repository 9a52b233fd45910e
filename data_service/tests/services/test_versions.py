import threading
from collections.abc import Callable

import pytest

from data_service.app.services.images import ImageQuery, UnknownImage, list_images
from data_service.app.services.versions import create_version, get_manifest, list_versions
from data_service.app.wiring import Dependencies
from data_service.tests.builders import png, yolo_files
from shared.errors import BadRequest
from shared.models.data import (
    DatasetVersionCreate,
    DatasetVersionView,
    IngestionReport,
    LabelledImage,
)
from shared.models.geometry import Annotation

IngestFiles = Callable[..., IngestionReport]
BOX = Annotation(class_id=1, xyxy=(0.1, 0.2, 0.3, 0.4))


def version(deps: Dependencies, round_id: str, *image_ids: str) -> DatasetVersionView:
    labels = tuple(LabelledImage(image_id=i, annotations=(BOX,)) for i in image_ids)
    request = DatasetVersionCreate(round_id=round_id, labels=labels)
    return create_version(deps.database, deps.store, "farm", request)


@pytest.fixture
def ids(deps: Dependencies, ingest_files: IngestFiles) -> list[str]:
    """Ids of two labelled images and two unlabelled ones, in version 1."""
    ingest_files(yolo_files(2) | {"images/x.png": png(90), "images/y.png": png(91)})
    labelled = list_images(deps.database, "farm", ImageQuery(labelled=True)).images
    rest = list_images(deps.database, "farm", ImageQuery(labelled=False)).images
    return [image.id for image in (*labelled, *rest)]


def test_versions_are_cumulative_and_new_labels_replace_old(
    deps: Dependencies, ids: list[str]
) -> None:
    second = version(deps, "r1", ids[0], ids[2])
    assert (second.version, second.parent, second.round_id) == (2, 1, "r1")
    assert second.n_images == {"train": 3, "val": 0, "gate": 0, "test": 0}
    items = {i.image_id: i for i in get_manifest(deps.database, deps.store, "farm", 2).items}
    assert items[ids[0]].annotations == (BOX,)
    assert items[ids[1]].annotations != (BOX,)
    assert items[ids[2]].annotations == (BOX,)
    assert len(get_manifest(deps.database, deps.store, "farm", 1).items) == 2


def test_the_hash_is_that_of_the_manifest(deps: Dependencies, ids: list[str]) -> None:
    made = version(deps, "r1", ids[2])
    manifest = get_manifest(deps.database, deps.store, "farm", 2)
    assert manifest.content_hash() == made.content_hash
    assert made.manifest_key == f"projects/farm/versions/{made.content_hash}.json"


def test_the_same_round_twice_makes_one_version(deps: Dependencies, ids: list[str]) -> None:
    assert version(deps, "r1", ids[2]) == version(deps, "r1", ids[2])
    assert [v.version for v in list_versions(deps.database, "farm")] == [1, 2]


def test_concurrent_posts_make_one_version_per_round(deps: Dependencies, ids: list[str]) -> None:
    start = threading.Barrier(6)
    made: list[tuple[str, int]] = []

    def close(round_id: str, image_id: str) -> None:
        start.wait()
        made.append((round_id, version(deps, round_id, image_id).version))

    rounds = [("r1", ids[2]), ("r2", ids[3])] * 3
    threads = [threading.Thread(target=close, args=r) for r in rounds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 6
    assert len(set(made)) == 2
    assert [v.version for v in list_versions(deps.database, "farm")] == [1, 2, 3]
    last = get_manifest(deps.database, deps.store, "farm", 3)
    assert {item.image_id for item in last.items} == set(ids)


def test_no_annotations_mean_nothing_here(deps: Dependencies, ids: list[str]) -> None:
    label = LabelledImage(image_id=ids[2], annotations=())
    request = DatasetVersionCreate(round_id="r1", labels=(label,))
    made = create_version(deps.database, deps.store, "farm", request)
    assert made.n_images["train"] == 3
    assert made.n_boxes["train"] == 2


def test_bad_labels_are_refused_with_their_name(deps: Dependencies, ids: list[str]) -> None:
    with pytest.raises(UnknownImage, match="unknown image: 'nope'"):
        version(deps, "r1", "nope")
    with pytest.raises(BadRequest, match=f"image labelled twice: '{ids[0]}'"):
        version(deps, "r1", ids[0], ids[0])
    owl = LabelledImage(image_id=ids[0], annotations=(BOX.model_copy(update={"class_id": 2}),))
    with pytest.raises(BadRequest, match=r"unknown class 2 on image .*: the project has 2"):
        create_version(
            deps.database, deps.store, "farm", DatasetVersionCreate(round_id="r1", labels=(owl,))
        )
    assert [v.version for v in list_versions(deps.database, "farm")] == [1]
