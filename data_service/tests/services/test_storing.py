from pathlib import Path

from data_service.app.core.formats.parsed import RawImage
from data_service.app.core.tree import FileTree
from data_service.app.services.storing import batches

MIB = 1 << 20


def sparse(root: Path, sizes: list[int]) -> tuple[FileTree, list[RawImage]]:
    names = [f"{i:03}.png" for i in range(len(sizes))]
    for name, size in zip(names, sizes, strict=True):
        with (root / name).open("wb") as file:
            file.truncate(size)
    return FileTree(root, names), [RawImage(path=name) for name in names]


def test_small_files_are_read_fifty_at_once(tmp_path: Path) -> None:
    tree, images = sparse(tmp_path, [1] * 120)
    assert [len(batch) for batch in batches(tree, images)] == [50, 50, 20]


def test_large_files_are_read_64_mib_at_once_and_a_larger_one_alone(tmp_path: Path) -> None:
    tree, images = sparse(tmp_path, [40 * MIB, 24 * MIB, 1, 100 * MIB, 1])
    found = [[image.path for image in batch] for batch in batches(tree, images)]
    assert found == [["000.png", "001.png"], ["002.png"], ["003.png"], ["004.png"]]


def test_a_file_that_is_gone_is_still_to_be_read(tmp_path: Path) -> None:
    tree, images = sparse(tmp_path, [1, 1])
    (tmp_path / "000.png").unlink()
    assert [len(batch) for batch in batches(tree, images)] == [2]


def test_no_images_are_no_batches(tmp_path: Path) -> None:
    assert list(batches(*sparse(tmp_path, []))) == []
