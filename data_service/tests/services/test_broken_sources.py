"""What nobody should hand in, beside one good image: it is named, and the good image is added."""

import io
import json
from collections.abc import Callable

import pytest
from PIL import Image, TiffImagePlugin, TiffTags

from data_service.app.services.images import ImageQuery, list_images
from data_service.app.wiring import Dependencies
from data_service.tests.builders import coco_json, encoded, noise, png, voc_xml
from shared.models.data import IngestionReport

IngestFiles = Callable[..., IngestionReport]
Files = dict[str, bytes | str]

HUGE = "9" * 400
ICC_PROFILE = 34675


def rejections(report: IngestionReport) -> list[tuple[str, str, str]]:
    return [(r.name, r.reason, r.detail) for r in report.rejected]


def test_an_image_of_one_row_or_column_has_a_thumbnail_of_one(
    deps: Dependencies, ingest_files: IngestFiles
) -> None:
    files = {
        "good.png": png(1),
        "tall.png": encoded(noise(3, (1, 2000))),
        "wide.png": encoded(noise(2, (2000, 1))),
    }
    report = ingest_files(files)
    assert (report.n_added, rejections(report)) == (3, [])
    images = list_images(deps.database, "farm", ImageQuery()).images
    thumbnails = {
        image.name: Image.open(io.BytesIO(deps.store.get(image.thumbnail_key))).size
        for image in images
    }
    assert thumbnails == {"good.png": (64, 48), "tall.png": (1, 256), "wide.png": (256, 1)}


def test_a_damaged_avif_is_named(ingest_files: IngestFiles) -> None:
    data = encoded(noise(2), "AVIF")
    body = data.index(b"mdat") + len(b"mdat")
    report = ingest_files({"good.png": png(1), "bad.avif": data[:body] + bytes(len(data) - body)})
    [(name, reason, detail)] = rejections(report)
    assert (name, reason) == ("bad.avif", "unreadable")
    assert detail.startswith("RuntimeError: Failed to decode")
    assert report.n_added == 1


def test_an_image_that_cannot_be_written_as_png_is_named(ingest_files: IngestFiles) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[ICC_PROFILE] = TiffTags.ASCII
    tags[ICC_PROFILE] = "text, not a profile"
    report = ingest_files({"good.png": png(1), "bad.tif": encoded(noise(2), "TIFF", tiffinfo=tags)})
    [(name, reason, detail)] = rejections(report)
    assert (name, reason) == ("bad.tif", "unreadable")
    assert detail.startswith("TypeError: ")
    assert report.n_added == 1


def yolo(label: str, config: str | None = None) -> Files:
    files: Files = {"images/a.png": png(1), "labels/a.txt": label}
    return files if config is None else files | {"data.yaml": config}


def coco(**changed: object) -> Files:
    box = {"id": 1, "image_id": 0, "category_id": 7, "bbox": [16, 12, 32, 24]}
    return {
        "a.json": json.dumps(json.loads(coco_json([box], ["a.png"])) | changed),
        "a.png": png(1),
    }


def coco_box(**changed: object) -> Files:
    box = {"id": 1, "image_id": 0, "category_id": 7, "bbox": [16, 12, 32, 24]}
    return coco(annotations=[box | changed])


def voc(size: str) -> Files:
    return {
        "Annotations/a.xml": voc_xml("a.png", ("ant", 5, 5, 9, 9), size=size),
        "JPEGImages/a.png": png(1),
    }


@pytest.mark.parametrize(
    ("files", "name", "detail"),
    [
        (yolo("3000000 .5 .5 .1 .1"), "labels/a.txt", "line 1: class 3000000 is above 10000"),
        (yolo("1e30 .5 .5 .1 .1"), "labels/a.txt", "line 1: class 1e30 is above 10000"),
        (yolo("", "nc: 1000000000"), "data.yaml", "nc is 1000000000, the limit is 10000"),
        (yolo("", "[" * 5000), "data.yaml", "no YAML mapping with the names of classes"),
        (
            yolo("", "names: !!timestamp no"),
            "data.yaml",
            "no YAML mapping with the names of classes",
        ),
        (
            yolo("", f"nc: 0x{'f' * 5000}"),
            "data.yaml",
            "no YAML mapping with the names of classes",
        ),
        (coco(annotations=["x"]), "a.json", "annotation 0: not an object: 'x'"),
        (coco(annotations=5), "a.json", "annotations is not a list: 5"),
        (coco(annotations=[], categories=5), "a.json", "categories is not a list: 5"),
        (
            coco(annotations=[], categories=[{"id": float("inf"), "name": "ant"}]),
            "a.json",
            "a category without id and name: {'id': inf, 'name': 'ant'}",
        ),
        (
            coco_box(bbox=[int(HUGE), 0, 8, 8]),
            "a.json",
            "annotation 1: int too large to convert to float",
        ),
        (
            coco(images=[{"id": 0, "file_name": "a.png", "width": int(HUGE), "height": 48}]),
            "a.png",
            f"the annotation is for {HUGE}x48, no image is larger than 4294967295 on a side",
        ),
        (
            {"Annotations/a.xml": "<?xml version='1.0' encoding='foo'?><a/>", "a.png": png(1)},
            "Annotations/a.xml",
            "no readable XML: LookupError: unknown encoding: foo",
        ),
        (
            voc(f"{HUGE}x{HUGE}"),
            "JPEGImages/a.png",
            f"the annotation is for {HUGE}x{HUGE}, no image is larger than 4294967295 on a side",
        ),
    ],
)
def test_annotations_that_mean_nothing_are_named_and_their_image_is_added(
    ingest_files: IngestFiles, files: Files, name: str, detail: str
) -> None:
    report = ingest_files(files)
    assert rejections(report) == [(name, "bad_annotation", detail)]
    assert (report.n_added, report.n_boxes) == (1, 0)
    assert len(report.classes) <= 2


def test_an_image_of_a_file_whose_annotations_are_no_list_is_unlabelled(
    ingest_files: IngestFiles,
) -> None:
    assert ingest_files(coco(annotations=5)).dataset_version is None


def test_the_largest_class_that_is_numbered_is_10000(ingest_files: IngestFiles) -> None:
    report = ingest_files(yolo("10000 .5 .5 .1 .1"))
    assert (len(report.classes), report.classes[-1], report.n_boxes) == (10_001, "class_10000", 1)
