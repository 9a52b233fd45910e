import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import update

from data_service.app.models.tables import ImageRow
from data_service.app.services.duplicate_groups import list_groups
from data_service.app.services.images import ImageQuery, ground_truth, list_images
from data_service.app.services.ingestion import EmptySource, Ingestion, ingest
from data_service.app.services.projects import create_project, get_project
from data_service.app.services.source import UnknownPath
from data_service.app.services.versions import get_manifest, get_version
from data_service.app.wiring import Dependencies
from data_service.tests.builders import (
    coco_json,
    encoded,
    noise,
    png,
    voc_xml,
    write_files,
    yolo_files,
    zipped,
)
from shared.errors import BadRequest, Forbidden
from shared.models.data import IngestionCreate, IngestionReport, ProjectCreate

IngestFiles = Callable[..., IngestionReport]


def rejections(report: IngestionReport) -> list[tuple[str, str, str]]:
    return [(r.name, r.reason, r.detail) for r in report.rejected]


def splits(deps: Dependencies, project: str = "farm") -> dict[str, str]:
    page = list_images(deps.database, project, ImageQuery(limit=1000))
    return {image.name: image.split for image in page.images}


def test_labels_make_the_first_version_and_pin_the_classes(
    deps: Dependencies, ingest_files: IngestFiles
) -> None:
    report = ingest_files(yolo_files(4) | {"images/unlabelled.png": png(9)})
    assert (report.format, report.n_files, report.n_added, report.n_known) == ("yolo", 5, 5, 0)
    assert (report.n_boxes, report.dataset_version, report.classes) == (4, 1, ("zebra", "ant"))
    project = get_project(deps.database, "farm")
    assert (project.n_images, project.n_labelled, project.latest_version) == (5, 4, 1)
    [image] = list_images(deps.database, "farm", ImageQuery(labelled=False)).images
    assert image.name == "unlabelled.png"


def test_exact_duplicates_are_stored_once(deps: Dependencies, ingest_files: IngestFiles) -> None:
    report = ingest_files({"a.png": png(1), "b/copy.png": png(1), "c.png": png(2)})
    assert (report.n_files, report.n_added, report.n_known) == (3, 2, 1)
    again = ingest_files({"d.png": png(1)})
    assert (again.n_added, again.n_known) == (0, 1)
    assert get_project(deps.database, "farm").n_images == 2


def test_an_exact_duplicate_in_two_lists_is_held_out_and_named_as_crossing(
    deps: Dependencies, ingest_files: IngestFiles
) -> None:
    report = ingest_files({"train/a.png": png(1), "val/b.png": png(1), "gate/c.png": png(2)})
    [pair] = report.near_duplicates
    assert (pair.first, pair.second, pair.distance, pair.crosses) == ("a.png", "b.png", 0, True)
    assert pair.splits == ("train", "val")
    assert "train" not in splits(deps).values()


def test_near_duplicates_share_a_group_and_crossing_ones_are_reported(
    deps: Dependencies, ingest_files: IngestFiles
) -> None:
    bright = noise(1, (256, 192)).point(lambda v: min(255, v + 3))
    report = ingest_files(
        {
            "train/a.png": encoded(noise(1, (256, 192))),
            "test/b.jpg": encoded(bright, "JPEG", quality=80),
            "train/other.png": encoded(noise(2, (256, 192))),
        }
    )
    [pair] = report.near_duplicates
    assert (pair.first, pair.second, pair.crosses) == ("a.png", "b.jpg", True)
    assert pair.splits == ("train", "test")
    assert pair.distance <= 6
    page = list_images(deps.database, "farm", ImageQuery())
    groups = {image.name: image.duplicate_group for image in page.images}
    assert groups["a.png"] == groups["b.jpg"] is not None
    assert groups["other.png"] is None


def test_groups_of_near_duplicates_are_listed_in_pages(
    deps: Dependencies, ingest_files: IngestFiles
) -> None:
    pairs = {f"train/{i}.png": encoded(noise(i, (256, 192))) for i in range(3)}
    copies = {f"train/{i}.jpg": encoded(noise(i, (256, 192)), "JPEG") for i in range(2)}
    across = {"test/2.jpg": encoded(noise(2, (256, 192)), "JPEG")}
    ingest_files(pairs | copies | across | {"train/alone.png": encoded(noise(9, (256, 192)))})
    whole = list_groups(deps.database, "farm", None, 10)
    assert whole.next_cursor is None
    names = [sorted(image.name for image in group.images) for group in whole.groups]
    assert sorted(names) == [[f"{i}.jpg", f"{i}.png"] for i in range(3)]
    crossing = [group for group in whole.groups if group.crosses]
    assert [sorted(i.name for i in group.images) for group in crossing] == [["2.jpg", "2.png"]]
    first = list_groups(deps.database, "farm", None, 2)
    assert first.groups == whole.groups[:2]
    rest = list_groups(deps.database, "farm", first.next_cursor, 2)
    assert (rest.groups, rest.next_cursor) == (whole.groups[2:], None)


def test_a_near_duplicate_of_an_old_image_joins_its_split(
    deps: Dependencies, ingest_files: IngestFiles
) -> None:
    ingest_files({"a.png": encoded(noise(1, (256, 192)))}, split="test")
    report = ingest_files({"b.jpg": encoded(noise(1, (256, 192)), "JPEG")})
    assert splits(deps) == {"a.png": "test", "b.jpg": "test"}
    assert [pair.crosses for pair in report.near_duplicates] == [False]


def test_near_duplicates_of_old_images_join_their_split_where_lists_lack_one(
    deps: Dependencies, ingest_files: IngestFiles
) -> None:
    old = {f"val/{i}.png": encoded(noise(i, (256, 192))) for i in range(6)}
    ingest_files({**old, "test/t.png": png(40), "train/u.png": png(41)})
    copies = {f"val/{i}.jpg": encoded(noise(i, (256, 192)), "JPEG") for i in range(6)}
    report = ingest_files({**copies, "test/v.png": png(42), "train/w.png": png(43)})
    assert [pair.crosses for pair in report.near_duplicates] == [False] * 6
    found = splits(deps)
    assert [found[f"{i}.jpg"] for i in range(6)] == [found[f"{i}.png"] for i in range(6)]
    assert {found[f"{i}.png"] for i in range(6)} == {"val", "gate"}


def test_bad_boxes_are_named_and_the_image_and_its_other_boxes_stay(
    deps: Dependencies, ingest_files: IngestFiles
) -> None:
    report = ingest_files(
        {
            "Annotations/a.xml": voc_xml(
                "a.png",
                ("ant", 5, 5, 5, 9),
                ("ant", 10, 10, 64.5, 20),
                ("ant", 10, 10, 70, 20),
            ),
            "JPEGImages/a.png": png(1),
        }
    )
    assert rejections(report) == [
        ("JPEGImages/a.png", "degenerate_box", "object 1 (ant: 5, 5, 5, 9) has no area"),
        (
            "JPEGImages/a.png",
            "out_of_range_box",
            "object 3 (ant: 10, 10, 70, 20) sticks out by more than 1 % of the image",
        ),
    ]
    [item] = get_manifest(deps.database, deps.store, "farm", 1).items
    assert [a.xyxy for a in item.annotations] == [(0.15625, 0.208333, 1.0, 0.416667)]


def test_an_image_all_whose_boxes_are_bad_is_unlabelled_not_empty(
    deps: Dependencies, ingest_files: IngestFiles
) -> None:
    files = {
        "Annotations/a.xml": voc_xml("a.png", ("ant", 5, 5, 5, 9)),
        "JPEGImages/a.png": png(1),
    }
    assert ingest_files(files).dataset_version is None


def test_unknown_classes_are_named_once_the_classes_are_pinned(ingest_files: IngestFiles) -> None:
    ingest_files(yolo_files(2))
    boxes = ("zebra", 0, 0, 8, 8), ("owl", 8, 8, 16, 16)
    report = ingest_files(
        {"Annotations/n.xml": voc_xml("n.png", *boxes), "JPEGImages/n.png": png(50)}
    )
    assert report.classes == ("zebra", "ant")
    assert rejections(report) == [
        (
            "JPEGImages/n.png",
            "unknown_class",
            "object 2 (owl: 8, 8, 16, 16): class 'owl' is not one of the project's",
        )
    ]


def test_an_annotation_of_another_shape_is_named(ingest_files: IngestFiles) -> None:
    xml = voc_xml("a.png", ("ant", 1, 1, 5, 9), size="100x100")
    report = ingest_files({"Annotations/a.xml": xml, "JPEGImages/a.png": png(1)})
    detail = "the annotation is for 100x100, the image is 64x48"
    assert rejections(report) == [("JPEGImages/a.png", "bad_annotation", detail)]


def test_bad_images_are_named_and_never_stop_the_rest(
    deps: Dependencies, ingest_files: IngestFiles
) -> None:
    whole = encoded(noise(1, (400, 300)), "JPEG")
    report = ingest_files(
        {
            "anim.gif": encoded(noise(1), "GIF", save_all=True, append_images=[noise(2)]),
            "cut.jpg": whole[: len(whole) // 2],
            "empty.png": b"",
            "good.png": png(3),
            "huge.png": encoded(Image.new("L", (1200, 1000))),
            "photo.heic": b"whatever",
            "text.png": b"hello",
            "wrong.png": whole,
        }
    )
    assert [(r.name, r.reason) for r in report.rejected] == [
        ("photo.heic", "unsupported"),
        ("anim.gif", "animated"),
        ("cut.jpg", "truncated"),
        ("empty.png", "unreadable"),
        ("huge.png", "oversized"),
        ("text.png", "mislabelled"),
        ("wrong.png", "mislabelled"),
    ]
    assert report.n_added == 1
    assert splits(deps) == {"good.png": "train"}


def test_a_normalised_image_keeps_its_original(
    deps: Dependencies, ingest_files: IngestFiles
) -> None:
    data = encoded(noise(1).convert("RGBA"), "TIFF")
    ingest_files({"a.tif": data})
    [image] = list_images(deps.database, "farm", ImageQuery()).images
    assert image.key == f"projects/farm/images/{image.id[:2]}/{image.id}.png"
    original = f"projects/farm/originals/{image.id[:2]}/{image.id}.tif"
    assert deps.store.get(original) == data
    assert Image.open(io.BytesIO(deps.store.get(image.key))).mode == "RGB"
    assert Image.open(io.BytesIO(deps.store.get(image.thumbnail_key))).format == "JPEG"


def test_as_oracle_hides_train_labels_and_keeps_held_out_ones(
    deps: Dependencies, ingest_files: IngestFiles
) -> None:
    files: dict[str, bytes | str] = {
        "data.yaml": "train: images/train\nval: images/val\nnames: [a]"
    }
    for i, split in enumerate(["train", "train", "val", "val", "val"]):
        files[f"images/{split}/{i}.png"] = png(i)
        files[f"labels/{split}/{i}.txt"] = "0 .5 .5 .5 .5\n"
    report = ingest_files(files, as_oracle=True)
    assert report.n_by_split == {"train": 2, "val": 1, "gate": 1, "test": 1}
    version = get_version(deps.database, "farm", 1)
    assert version.n_images == {"train": 0, "val": 1, "gate": 1, "test": 1}
    pool = list_images(deps.database, "farm", ImageQuery(split="train", labelled=False)).images
    truth = ground_truth(deps.database, deps.store, "farm", pool[0].id)
    assert [(a.class_id, a.xyxy, a.source) for a in truth.annotations] == [
        (0, (0.25, 0.25, 0.75, 0.75), "oracle")
    ]


def test_ingesting_again_keeps_the_splits(
    deps: Dependencies, ingest_files: IngestFiles, ingest_path: IngestFiles, tmp_path: Path
) -> None:
    create_project(deps.database, ProjectCreate(name="drawn"))
    root = write_files(tmp_path / "roots" / "set", {f"{i}.png": png(i) for i in range(30)})
    first = ingest_path(root, "drawn")
    assert first.n_by_split == {"train": 21, "val": 3, "gate": 3, "test": 3}
    before = splits(deps, "drawn")
    write_files(root, {f"{i}.png": png(i) for i in range(30, 40)})
    second = ingest_path(root, "drawn")
    assert (second.n_added, second.n_known) == (10, 30)
    after = splits(deps, "drawn")
    assert {name: after[name] for name in before} == before
    assert get_project(deps.database, "drawn").n_by_split == {
        "train": 28,
        "val": 4,
        "gate": 4,
        "test": 4,
    }


class _Killed(Exception):
    pass


@pytest.mark.parametrize("at", [0.3, 0.9, 0.93, 0.95])
def test_a_killed_ingestion_ends_like_one_that_was_not(
    deps: Dependencies, tmp_path: Path, at: float
) -> None:
    root = write_files(tmp_path / "roots" / "set", yolo_files(120))
    request = IngestionCreate(path=str(root))

    def die(fraction: float, message: str) -> None:
        if fraction >= at:
            raise _Killed

    def run(project: str, progress: Callable[[float, str], None]) -> IngestionReport:
        ingestion = Ingestion(f"job-{project}", project, request)
        return ingest(deps.ingestion, ingestion, progress)

    for name in ("killed", "whole"):
        create_project(deps.database, ProjectCreate(name=name, seed=3))
    with pytest.raises(_Killed):
        run("killed", die)
    if at > 0.93:
        with deps.database.transaction() as session:  # as if the splits were half written
            half = list(session.scalars(ImageRow.__table__.select().with_only_columns(ImageRow.id)))
            session.execute(update(ImageRow).where(ImageRow.id.in_(half[::2])).values(split=None))
    report = run("killed", lambda fraction, message: None)
    expected = run("whole", lambda fraction, message: None)
    assert report.model_dump(exclude={"project"}) == expected.model_dump(exclude={"project"})
    assert splits(deps, "killed") == splits(deps, "whole")
    hashes = {get_version(deps.database, p, 1).content_hash for p in ("killed", "whole")}
    assert len(hashes) == 1
    assert run("killed", lambda fraction, message: None).dataset_version == 1


def test_images_of_an_ingestion_under_way_are_not_seen(deps: Dependencies, tmp_path: Path) -> None:
    root = write_files(tmp_path / "roots" / "set", {"a.png": png(1)})

    def die(fraction: float, message: str) -> None:
        if fraction >= 0.9:
            raise _Killed

    ingestion = Ingestion("job", "farm", IngestionCreate(path=str(root)))
    with pytest.raises(_Killed):
        ingest(deps.ingestion, ingestion, die)
    assert get_project(deps.database, "farm").n_images == 0
    assert list_images(deps.database, "farm", ImageQuery()).images == ()


def test_a_zip_is_read_like_a_folder_and_its_bad_entries_are_named(
    deps: Dependencies, ingest_path: IngestFiles, tmp_path: Path
) -> None:
    path = tmp_path / "roots" / "set.zip"
    path.write_bytes(zipped({f"top/{k}": v for k, v in yolo_files(2).items()} | {"../x.png": b""}))
    report = ingest_path(path)
    assert (report.format, report.n_added, report.dataset_version) == ("yolo", 2, 1)
    assert rejections(report) == [("../x.png", "unsafe_path", "the path climbs out by '..'")]


def test_a_file_that_only_says_it_is_a_zip_is_named(
    ingest_path: IngestFiles, tmp_path: Path
) -> None:
    path = tmp_path / "roots" / "set.zip"
    path.write_bytes(b"no zip")
    assert rejections(ingest_path(path)) == [("set.zip", "unreadable", "named .zip, but is none")]


def test_paths_outside_the_roots_are_forbidden(
    deps: Dependencies, ingest_path: IngestFiles, tmp_path: Path
) -> None:
    root = tmp_path / "roots"
    outside = write_files(tmp_path / "outside", {"a.png": png(1)})
    os.symlink(outside, root / "link")
    for path in (outside, root / "link", root / ".." / "outside", Path("/etc")):
        with pytest.raises(Forbidden, match="path is not under FOVEA_INGEST_ROOTS: '/"):
            ingest_path(path)
    with pytest.raises(UnknownPath, match=r"unknown path: '.*/roots/gone'"):
        ingest_path(root / "gone")


def test_exactly_one_source_is_needed(deps: Dependencies) -> None:
    ingestion = Ingestion("job", "farm", IngestionCreate())
    with pytest.raises(
        BadRequest, match="needs one of path, upload_id, urls_upload_id, s3: got none"
    ):
        ingest(deps.ingestion, ingestion, lambda f, m: None)


def test_boxes_of_coco_become_normalised(deps: Dependencies, ingest_files: IngestFiles) -> None:
    box = {"id": 1, "image_id": 0, "category_id": 7, "bbox": [16, 12, 32, 24]}
    ingest_files({"a.json": coco_json([box], ["a.png"]), "a.png": png(1)})
    manifest = get_manifest(deps.database, deps.store, "farm", 1)
    [annotation] = manifest.items[0].annotations
    assert manifest.classes == ("zebra", "ant")
    assert (annotation.class_id, annotation.xyxy) == (1, (0.25, 0.25, 0.75, 0.75))


def tar_of_folders() -> bytes:
    buffer = io.BytesIO()
    folder = tarfile.TarInfo("images")
    folder.type = tarfile.DIRTYPE
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(folder)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("files", "source", "error"),
    [
        ({"set/images/.hidden": b""}, "set", "nothing under {}"),
        ({"set/notes.md": b"", "set/a.bin": b""}, "set", "no image among the 2 files under {}"),
        ({"set.zip": zipped({})}, "set.zip", "nothing in set.zip"),
        ({"set.tar": tar_of_folders()}, "set.tar", "nothing in set.tar"),
    ],
)
def test_a_source_that_holds_nothing_has_failed_by_its_name(
    ingest_path: IngestFiles, tmp_path: Path, files: dict[str, bytes], source: str, error: str
) -> None:
    path = write_files(tmp_path / "roots", files) / source
    with pytest.raises(EmptySource) as caught:
        ingest_path(path)
    assert str(caught.value) == error.format(path)
