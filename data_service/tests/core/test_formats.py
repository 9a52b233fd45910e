import json
from pathlib import Path

import pytest

from data_service.app.core.formats.detect import read_source, recognise
from data_service.app.core.formats.parsed import Parsed
from data_service.app.core.tree import read_tree
from data_service.tests.builders import coco_json, png, voc_xml, write_files, yolo_files


def read(root: Path, files: dict[str, bytes | str]) -> Parsed:
    tree, _ = read_tree(write_files(root, files), [root])
    return read_source(tree, "auto")


def rejections(parsed: Parsed) -> list[tuple[str, str, str]]:
    return [(r.name, r.reason, r.detail) for r in parsed.rejected]


def splits(parsed: Parsed) -> dict[str, str | None]:
    return {image.path: image.split for image in parsed.images}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"data.yaml": "names: [a]"}, "yolo"),
        ({"images/a.png": b"", "labels/a.txt": ""}, "yolo"),
        ({"a.png": b"", "a.txt": "0 .5 .5 .1 .1"}, "yolo"),
        ({"annotations/instances_val.json": coco_json([], [])}, "coco"),
        ({"Annotations/a.xml": voc_xml("a.png")}, "voc"),
        ({"set/a.xml": voc_xml("a.png"), "set/a.png": b""}, "voc"),
        ({"a.png": b"", "README.txt": "hello", "other.json": "{}"}, "images"),
        ({}, "images"),
    ],
)
def test_a_format_is_recognised(
    tmp_path: Path, files: dict[str, bytes | str], expected: str
) -> None:
    tree, _ = read_tree(write_files(tmp_path, files), [tmp_path])
    assert recognise(tree) == expected


def test_yolo_keeps_the_order_of_data_yaml(tmp_path: Path) -> None:
    parsed = read(tmp_path, yolo_files(2))
    assert parsed.classes == ("zebra", "ant")
    [first, second] = [image.boxes for image in parsed.images]
    assert first is not None
    assert second is not None
    assert (first[0].class_name, first[0].xyxy) == ("zebra", (0.375, 0.25, 0.625, 0.75))
    assert second[0].class_name == "ant"
    assert parsed.declared == frozenset()


def test_a_yolo_label_file_without_lines_means_nothing_here(tmp_path: Path) -> None:
    parsed = read(
        tmp_path,
        {
            "data.yaml": "names: {0: a}",
            "images/empty.png": png(1),
            "labels/empty.txt": "",
            "images/unlabelled.png": png(2),
        },
    )
    assert [image.boxes for image in parsed.images] == [(), None]


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (
            "0 .5 .5 .1",
            "bad_annotation",
            "line 1: expected 'class x y width height', found 4 values",
        ),
        (
            "0 .1 .1 .2 .1 .2 .2 .1 .2",
            "bad_annotation",
            "line 1: expected 'class x y width height', found 9 values",
        ),
        ("0 .5 .5 nan .1", "bad_annotation", "line 1: not a finite number in '0 .5 .5 nan .1'"),
        ("x .5 .5 .1 .1", "bad_annotation", "line 1: could not convert string to float: 'x'"),
        ("0.5 .5 .5 .1 .1", "bad_annotation", "line 1: class '0.5' is not a whole number from 0"),
        ("7 .5 .5 .1 .1", "unknown_class", "line 1: class 7, the source names 1"),
    ],
)
def test_a_bad_yolo_line_is_named(tmp_path: Path, line: str, reason: str, detail: str) -> None:
    parsed = read(
        tmp_path,
        {"data.yaml": "names: [a]", "images/a.png": png(1), "labels/a.txt": f"{line}\n0 .5 .5 1 1"},
    )
    assert rejections(parsed) == [("labels/a.txt", reason, detail)]
    boxes = parsed.images[0].boxes
    assert boxes is not None
    assert len(boxes) == 1


def test_yolo_lists_and_folders_of_data_yaml_are_read(tmp_path: Path) -> None:
    config = "path: /somewhere/else\ntrain: train.txt\nval: ../valid/images\ntest:\nnames: [a]\n"
    parsed = read(
        tmp_path,
        {
            "data.yaml": config,
            "train.txt": "./pics/a.png\n/home/me/set/pics/b.png\n\npics/gone.png\n",
            "pics/a.png": png(1),
            "pics/b.png": png(2),
            "valid/images/c.png": png(3),
        },
    )
    assert splits(parsed) == {
        "pics/a.png": "train",
        "pics/b.png": "train",
        "valid/images/c.png": "val",
    }
    assert parsed.declared == {"train", "val"}
    assert rejections(parsed) == [
        ("pics/gone.png", "missing_image", "listed in train.txt, not in the source")
    ]


def test_a_split_whose_folder_is_not_there_is_named_and_not_given(tmp_path: Path) -> None:
    config = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [a]\n"
    files: dict[str, bytes | str] = {"train/images/a.png": png(1), "valid/images/b.png": png(2)}
    parsed = read(tmp_path, {"data.yaml": config, **files})
    assert parsed.declared == {"train", "val"}
    assert rejections(parsed) == [
        (
            "../test/images",
            "bad_annotation",
            "data.yaml names this folder, it has no images",
        )
    ]


def test_an_empty_list_of_data_yaml_is_a_split_without_images(tmp_path: Path) -> None:
    config = "train: images\nval: []\ngate: []\ntest: []\nnames: [a]\n"
    parsed = read(tmp_path, {"data.yaml": config, "images/a.png": png(1)})
    assert parsed.declared == {"train", "val", "gate", "test"}
    assert parsed.rejected == []


@pytest.mark.parametrize(
    ("config", "declared", "wanted", "twin"),
    [
        ("val: images\ntrain: images\ntest:\n", {"train"}, "train", "val is train again"),
        ("val: images\ntest: images\n", {"val"}, "val", "test is val again"),
    ],
)
def test_a_split_with_the_images_of_another_is_named_and_not_given(
    tmp_path: Path, config: str, declared: set[str], wanted: str, twin: str
) -> None:
    files: dict[str, bytes | str] = {"images/a.png": png(1), "images/b.png": png(2)}
    parsed = read(tmp_path, {"data.yaml": f"{config}names: [a]\n", **files})
    assert splits(parsed) == {"images/a.png": wanted, "images/b.png": wanted}
    assert parsed.declared == declared
    [(name, reason, detail)] = rejections(parsed)
    assert (name, reason) == ("data.yaml", "bad_annotation")
    assert detail == f"{twin}: it is drawn"


def test_lists_without_data_yaml_and_contradictions_are_read(tmp_path: Path) -> None:
    parsed = read(
        tmp_path,
        {
            "images/a.png": png(1),
            "images/b.png": png(2),
            "labels/a.txt": "1 .5 .5 .1 .1",
            "train.txt": "images/a.png\nimages/b.png\n",
            "val.txt": "images/b.png\n",
        },
    )
    assert splits(parsed) == {"images/a.png": "train", "images/b.png": "val"}
    assert parsed.classes == ("class_0", "class_1")
    assert rejections(parsed) == [
        ("images/b.png", "bad_annotation", "listed in train and in val; put into val")
    ]


def test_a_yolo_label_without_image_is_named(tmp_path: Path) -> None:
    parsed = read(tmp_path, yolo_files(1) | {"labels/alone.txt": "0 .5 .5 .1 .1"})
    assert rejections(parsed) == [
        ("labels/alone.txt", "missing_image", "a label file without its image")
    ]


def test_a_broken_data_yaml_is_named(tmp_path: Path) -> None:
    parsed = read(
        tmp_path, {"data.yaml": "names: [a", "images/a.png": b"", "labels/a.txt": "0 .5 .5 .1 .1"}
    )
    assert rejections(parsed) == [
        ("data.yaml", "bad_annotation", "no YAML mapping with the names of classes")
    ]


def test_coco_pins_categories_by_id_and_keeps_nothing_here(tmp_path: Path) -> None:
    box = {"id": 1, "image_id": 0, "category_id": 7, "bbox": [16, 12, 32, 24]}
    parsed = read(
        tmp_path,
        {
            "annotations/instances_train2017.json": coco_json([box], ["a.png", "b.png"]),
            "annotations/instances_val2017.json": coco_json([], []),
            "train2017/a.png": png(1),
            "train2017/b.png": png(2),
            "train2017/unlisted.png": png(3),
        },
    )
    assert parsed.classes == ("zebra", "ant")
    assert parsed.declared == {"train", "val"}
    a, b, unlisted = parsed.images
    assert a.boxes is not None
    assert (a.boxes[0].class_name, a.boxes[0].xyxy) == ("ant", (16, 12, 48, 36))
    assert (a.split, a.box_size) == ("train", (64, 48))
    assert b.boxes == ()
    assert unlisted.boxes is None


@pytest.mark.parametrize(
    ("entry", "detail"),
    [
        ({"segmentation": {"counts": [1], "size": [1, 1]}}, "no bbox (only a mask or nothing)"),
        ({"bbox": [1, 2, 3, 4], "iscrowd": 1}, "a crowd region is not one object"),
        (
            {"bbox": [1, 2, 3, 4], "attributes": {"rotation": 30.0}},
            "not an upright box: [1, 2, 3, 4]",
        ),
        ({"bbox": [1, 2, 3, 4, 5]}, "not an upright box: [1, 2, 3, 4, 5]"),
        ({"bbox": [1, 2, "x", 4]}, "could not convert string to float: 'x'"),
        ({"bbox": [1, 2, float("nan"), 4]}, "not a finite number in [1, 2, nan, 4]"),
    ],
)
def test_a_bad_coco_annotation_is_named(
    tmp_path: Path, entry: dict[str, object], detail: str
) -> None:
    good = {"id": 1, "image_id": 0, "category_id": 7, "bbox": [1, 1, 2, 2]}
    bad = {"id": 2, "image_id": 0, "category_id": 7} | entry
    parsed = read(tmp_path, {"a.json": coco_json([good, bad], ["a.png"]), "a.png": png(1)})
    assert rejections(parsed) == [("a.json", "bad_annotation", f"annotation 2: {detail}")]
    boxes = parsed.images[0].boxes
    assert boxes is not None
    assert len(boxes) == 1


def test_missing_images_and_broken_files_of_coco_are_named(tmp_path: Path) -> None:
    orphan = {"id": 5, "image_id": 99, "category_id": 7, "bbox": [1, 1, 2, 2]}
    parsed = read(
        tmp_path,
        {"good.json": coco_json([orphan], ["gone.png"]), "bad.json": "{", "a.png": png(1)},
    )
    assert rejections(parsed) == [
        ("bad.json", "bad_annotation", "no COCO JSON with images and categories"),
        ("gone.png", "missing_image", "listed in good.json, not in the source"),
        ("good.json", "missing_image", "annotation 5: image_id 99 is not listed"),
    ]


def test_images_to_label_listed_by_coco_are_unlabelled(tmp_path: Path) -> None:
    document = json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "categories": []})
    parsed = read(tmp_path, {"image_info.json": document, "a.png": png(1)})
    assert parsed.images[0].boxes is None


def test_voc_sorts_classes_and_reads_its_lists(tmp_path: Path) -> None:
    parsed = read(
        tmp_path,
        {
            "Annotations/a.xml": voc_xml("a.png", ("zebra", 0, 0, 32, 24), ("ant", 1, 1, 2, 2)),
            "Annotations/b.xml": voc_xml("b.png"),
            "JPEGImages/a.png": png(1),
            "JPEGImages/b.png": png(2),
            "JPEGImages/c.png": png(3),
            "ImageSets/Main/train.txt": "a\n",
            "ImageSets/Main/test.txt": "b\nmissing\n",
            "ImageSets/Main/trainval.txt": "a\nb\n",
            "ImageSets/Main/ant_train.txt": "b 1\n",
        },
    )
    assert parsed.classes == ("ant", "zebra")
    assert parsed.declared == {"train", "test"}
    assert splits(parsed) == {
        "JPEGImages/a.png": "train",
        "JPEGImages/b.png": "test",
        "JPEGImages/c.png": None,
    }
    assert [i.boxes is None for i in parsed.images] == [False, False, True]
    assert rejections(parsed) == [
        ("missing", "missing_image", "listed in ImageSets/Main/test.txt, not in the source")
    ]


def test_bad_voc_annotations_are_named(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'
    rotated = voc_xml("r.png", ("ant", 0, 0, 9, 9)).replace(
        "<object>", "<object><robndbox></robndbox>"
    )
    parsed = read(
        tmp_path,
        {
            "Annotations/bomb.xml": bomb,
            "Annotations/broken.xml": "<annotation>",
            "Annotations/other.xml": "<svg/>",
            "Annotations/r.xml": rotated,
            "Annotations/n.xml": voc_xml("n.png", ("ant", 0, 0, 9, 9)).replace("9<", "nine<"),
            "Annotations/z.xml": voc_xml("z.png"),
            "JPEGImages/r.png": png(1),
            "JPEGImages/n.png": png(2),
        },
    )
    assert [(r.name, r.reason) for r in parsed.rejected] == [
        ("Annotations/bomb.xml", "bad_annotation"),
        ("Annotations/broken.xml", "bad_annotation"),
        ("JPEGImages/n.png", "bad_annotation"),
        ("Annotations/other.xml", "bad_annotation"),
        ("JPEGImages/r.png", "bad_annotation"),
        ("Annotations/z.xml", "missing_image"),
    ]
    details = [r.detail for r in parsed.rejected]
    assert "EntitiesForbidden" in details[0]
    assert details[2] == "object 1 (ant): could not convert string to float: 'nine'"
    assert details[3] == "the root is <svg>, not <annotation>"
    assert details[4] == "object 1 (ant): a rotated box"
    assert details[5] == "the image 'z.png' is not in the source"
    # Their objects could not be read: that is not the same as an image without any.
    assert [image.boxes for image in parsed.images] == [None, None]


def test_folders_of_images_alone_are_splits(tmp_path: Path) -> None:
    parsed = read(tmp_path, {"train/a.png": b"", "valid/b.png": b"", "x.json": "{"})
    assert splits(parsed) == {"train/a.png": "train", "valid/b.png": "val"}
    assert rejections(parsed) == [
        ("x.json", "bad_annotation", "no annotations in a format we read")
    ]


def test_links_out_of_the_folder_are_named_and_hidden_files_ignored(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(1))
    root = write_files(
        tmp_path / "root", {"a.png": png(2), ".hidden.png": b"", "__MACOSX/b.png": b""}
    )
    (root / "out.png").symlink_to(secret)
    (root / "in.png").symlink_to(root / "a.png")
    (root / "nowhere.png").symlink_to(root / "gone.png")
    (root / "folder").symlink_to(tmp_path)
    tree, rejected = read_tree(root, [root])
    assert tree.names == ("a.png", "in.png")
    assert sorted((r.name, r.reason, r.detail) for r in rejected) == [
        ("folder", "link", "a link to a folder"),
        ("nowhere.png", "link", "a link that leads out, or nowhere"),
        ("out.png", "link", "a link that leads out, or nowhere"),
    ]
