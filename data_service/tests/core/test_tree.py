import os
from pathlib import Path

import pytest

from data_service.app.core.formats.detect import read_source
from data_service.app.core.tree import FileTree, read_tree
from data_service.tests.builders import encoded, noise, png, voc_xml, write_files
from shared.models.data import Format, Rejection

Files = dict[str, bytes | str]


def named(rejected: list[Rejection]) -> list[tuple[str, str, str]]:
    return [(r.name, r.reason, r.detail) for r in rejected]


def test_a_named_pipe_is_named_and_never_read(tmp_path: Path) -> None:
    root = write_files(tmp_path, {"a.png": png(1)})
    for name in ("classes.txt", "pipe.json"):
        os.mkfifo(root / name)
    (root / "to_pipe.txt").symlink_to(root / "classes.txt")
    tree, rejected = read_tree(root, [root])
    assert tree.names == ("a.png",)
    assert named(rejected) == [
        ("classes.txt", "unsupported", "not a plain file"),
        ("pipe.json", "unsupported", "not a plain file"),
        ("to_pipe.txt", "link", "a link that leads out, or nowhere"),
    ]


def test_images_that_are_not_called_so_are_named(tmp_path: Path) -> None:
    files: Files = {
        "a.png": png(1),
        "notes.md": "# notes",
        "photo": png(2),
        "x.dat": encoded(noise(3), "JPEG"),
        "empty": b"",
    }
    root = write_files(tmp_path, files)
    (root / "linked").symlink_to(root / "a.png")
    tree, rejected = read_tree(root, [root])
    assert tree.images == ("a.png",)
    assert named(rejected) == [
        ("linked", "mislabelled", "named without extension, but the bytes are PNG"),
        ("photo", "mislabelled", "named without extension, but the bytes are PNG"),
        ("x.dat", "mislabelled", "named .dat, but the bytes are JPEG"),
    ]


@pytest.mark.parametrize(
    ("kind", "files", "gone", "reason"),
    [
        ("yolo", {"a.png": b""}, "classes.txt", "unreadable"),
        ("yolo", {"a.png": b""}, "train.txt", "unreadable"),
        ("yolo", {"a.png": b""}, "a.txt", "bad_annotation"),
        ("yolo", {"a.png": b""}, "data.yaml", "bad_annotation"),
        ("coco", {"a.png": b""}, "instances.json", "bad_annotation"),
        ("voc", {"a.png": b""}, "Annotations/a.xml", "bad_annotation"),
        ("voc", {"a.png": b"", "a.xml": voc_xml("a.png")}, "classes.txt", "unreadable"),
        ("voc", {"JPEGImages/a.png": b""}, "ImageSets/Main/val.txt", "unreadable"),
    ],
)
def test_an_annotation_file_that_cannot_be_read_is_named(
    tmp_path: Path, kind: Format, files: Files, gone: str, reason: str
) -> None:
    # As root everything may be read; what is gone cannot be read by anybody.
    tree = FileTree(write_files(tmp_path, files), [*files, gone])
    parsed = read_source(tree, kind)
    assert [(r.name, r.reason) for r in parsed.rejected] == [(gone, reason)]
    assert [image.path for image in parsed.images] == list(tree.images)


def test_a_source_whose_files_cannot_be_read_is_one_of_images(tmp_path: Path) -> None:
    tree = FileTree(tmp_path, ["a.json", "a.xml", "data.yaml"])
    assert read_source(tree, "auto").format == "images"


def test_an_image_that_is_called_like_labels_is_named(tmp_path: Path) -> None:
    files: Files = {
        "a.txt": encoded(noise(1), "JPEG"),
        "b.json": encoded(noise(2), "BMP"),
        "classes.txt": "BMW\nFiat\n",
        "cars.txt": "BMW für Käufer, gebraucht",
        "cut.txt": "BM 3456789 1234ü",
    }
    tree, rejected = read_tree(write_files(tmp_path, files), [tmp_path])
    assert tree.names == ("cars.txt", "classes.txt", "cut.txt")
    assert named(rejected) == [
        ("a.txt", "mislabelled", "named .txt, but the bytes are JPEG"),
        ("b.json", "mislabelled", "named .json, but the bytes are BMP"),
    ]
