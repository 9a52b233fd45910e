"""A folder of files: listed once, links looked at, searched as annotation files name them."""

import os
from codecs import getincrementaldecoder
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from data_service.app.core.images import IMAGE_EXTENSIONS, UNSUPPORTED_EXTENSIONS
from shared.images import kind_of
from shared.models.data import Rejection, Split

_SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "gate": "gate",
    "test": "test",
    "testing": "test",
}
# Of files that are read, or named in the report, for what they are called.
_KNOWN_EXTENSIONS = IMAGE_EXTENSIONS | UNSUPPORTED_EXTENSIONS
LABEL_EXTENSIONS = frozenset({".txt", ".xml", ".json", ".yaml", ".yml"})


class FileTree:
    """The files under one folder, by their POSIX paths relative to it, sorted."""

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        """Hold `names`, which all lie under `root`."""
        self.root = root
        self.names = tuple(sorted(names))
        self._known = frozenset(self.names)

    def __contains__(self, name: str) -> bool:
        """Tell whether a file has this path."""
        return name in self._known

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        return (self.root / name).read_bytes()

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        return (self.root / name).stat().st_size

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Return the files with one of these extensions, in any case."""
        return [name for name in self.names if suffix_of(name) in suffixes]

    @cached_property
    def images(self) -> tuple[str, ...]:
        """Return the files whose extension is one of an image."""
        return tuple(self.with_suffix(*IMAGE_EXTENSIONS))

    @cached_property
    def unsupported(self) -> tuple[str, ...]:
        """Return the files that may be meant as images, of kinds that are not read."""
        return tuple(self.with_suffix(*UNSUPPORTED_EXTENSIONS))

    @cached_property
    def _image_folders(self) -> dict[str, list[str]]:
        folders: dict[str, list[str]] = defaultdict(list)
        for name in self.images:
            for parent in PurePosixPath(name).parents:
                folders[str(parent)].append(name)
        return folders

    @cached_property
    def _by_basename(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            names[PurePosixPath(name).name].append(name)
        return names

    @cached_property
    def image_stems(self) -> dict[str, str]:
        """Return the images by their paths without extension."""
        return {without_suffix(name): name for name in reversed(self.images)}

    def find(self, reference: str, base: str) -> str | None:
        """Return the file that a line of a list or an annotation means.

        Such paths are relative to the list, to a root elsewhere, or absolute on another machine:
        the longest end of the path that fits exactly one file counts, beside `base` first.
        """
        parts = _clean(reference)
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            for candidate in (join(base, tail), tail):
                if candidate in self._known:
                    return candidate
        same = self._by_basename.get(parts[-1], []) if parts else []
        near = [name for name in same if name.startswith(base + "/")] if base != "." else same
        return (near or same)[0] if len(near or same) == 1 else None

    def images_in(self, reference: str, base: str) -> list[str] | None:
        """Return the images in the folder that a configuration names; None where there is none."""
        parts = _clean(reference)
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            for candidate in (join(base, tail), tail):
                if candidate in self._image_folders:
                    return self._image_folders[candidate]
        return None


def read_tree(root: Path, allowed: Sequence[Path]) -> tuple[FileTree, list[Rejection]]:
    """List a folder.

    Args:
        root: the folder, resolved.
        allowed: a link may lead to a file under one of these, resolved.

    Returns:
        The files, and a rejection for every link that leads elsewhere, every unreadable name,
        every file that is not a plain one, and every image whose extension is not one of an image.
    """
    names: list[str] = []
    rejected: list[Rejection] = []
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not _hidden(f))
        links = [f for f in folders if (Path(parent) / f).is_symlink()]
        for file in [*links, *sorted(f for f in files if not _hidden(f))]:
            path = Path(parent) / file
            problem = _problem(path, allowed)
            name = path.relative_to(root).as_posix()
            if problem is None:
                names.append(name)
            else:
                rejected.append(problem_of(name, problem))
    return FileTree(root, names), rejected


def problem_of(name: str, rejection: Rejection) -> Rejection:
    """Return the rejection with a name that any record can hold."""
    printable = name.encode("utf-8", "replace").decode()
    return rejection.model_copy(update={"name": printable})


def _problem(path: Path, allowed: Sequence[Path]) -> Rejection | None:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return Rejection(name="", reason="unsafe_path", detail="the name is not UTF-8")
    if not path.is_symlink():
        return _problem_inside(path)
    target = path.resolve()
    if target.is_file() and any(target.is_relative_to(folder) for folder in allowed):
        return _problem_inside(path)
    detail = "a link to a folder" if target.is_dir() else "a link that leads out, or nowhere"
    return Rejection(name="", reason="link", detail=detail)


def _problem_inside(path: Path) -> Rejection | None:
    # Reading a named pipe waits for ever.
    if not path.is_file():
        return Rejection(name="", reason="unsupported", detail="not a plain file")
    extension = suffix_of(path.name)
    if extension in _KNOWN_EXTENSIONS:
        return None
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as exc:
        return Rejection(
            name="", reason="unreadable", detail=f"{type(exc).__name__}: {exc.strerror}"
        )
    kind = kind_of(head)
    # A list of classes may begin with BMW, and so may a BMP.
    if kind is None or (extension in LABEL_EXTENSIONS and _is_text(head)):
        return None
    detail = f"named {extension or 'without extension'}, but the bytes are {kind}"
    return Rejection(name="", reason="mislabelled", detail=detail)


def _is_text(head: bytes) -> bool:
    try:
        # Not the final piece: its last letter may be cut.
        return "\0" not in getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False


def split_of(path: str) -> Split | None:
    """Return the split that a folder of the path names, the innermost first."""
    for part in reversed(PurePosixPath(path).parts[:-1]):
        split = split_word(part)
        if split is not None:
            return split
    return None


def split_word(word: str) -> Split | None:
    """Return the split that a word means: `valid` is val."""
    return _SPLIT_WORDS.get(word.lower())


def split_words() -> frozenset[str]:
    """Return every word that means a split."""
    return frozenset(_SPLIT_WORDS)


def suffix_of(name: str) -> str:
    """Return the extension in lower case, with its dot."""
    return PurePosixPath(name).suffix.lower()


def without_suffix(name: str) -> str:
    """Return the path without its extension."""
    return str(PurePosixPath(name).with_suffix(""))


def folder_of(name: str) -> str:
    """Return the folder of a path; `.` is the root."""
    return str(PurePosixPath(name).parent)


def join(base: str, tail: str) -> str:
    """Return `tail` under the folder `base`."""
    return tail if base == "." else f"{base}/{tail}"


def _clean(reference: str) -> list[str]:
    parts = reference.strip().replace("\\", "/").split("/")
    return [part for part in parts if part not in {"", ".", ".."}]


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in {"__MACOSX", "Thumbs.db", "desktop.ini"}
