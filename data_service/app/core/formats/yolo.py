"""YOLO: a text file per image, `class x y width height` normalised, and a data.yaml.

A label file without lines means 'nothing here'; an image without label file is unlabelled.
Classes are those of data.yaml in its order, else of classes.txt, else named by their number.
Splits are those of data.yaml (folders or lists), else of train.txt, val.txt, else of folders.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import yaml

from data_service.app.core.boxes import RawBox
from data_service.app.core.formats.parsed import (
    ExportFile,
    ExportItem,
    ListedSplits,
    Parsed,
    RawImage,
    decode_text,
    lines_of,
)
from data_service.app.core.tree import (
    FileTree,
    folder_of,
    split_of,
    split_word,
    split_words,
    suffix_of,
    without_suffix,
)
from shared.models.data import SPLITS, Split

# Classes without names are numbered up to the largest that is used.
_MAX_CLASS = 10_000
# What PyYAML raises on a text that is no YAML, or whose values do not fit their tags; and a disk.
_BROKEN_YAML = (
    yaml.YAMLError, ValueError, RecursionError, AttributeError, KeyError, IndexError,
    TypeError, OverflowError, OSError,
)  # fmt: skip
_NOT_LABELS = frozenset({"classes.txt", "labels.txt", "readme.txt", "requirements.txt"})


def recognises(tree: FileTree) -> bool:
    """Tell whether a source has a data.yaml with names, or text files that belong to images."""
    if any(_config(tree, name) is not None for name in tree.with_suffix(".yaml", ".yml")):
        return True
    return any(_image_of(tree, name) is not None for name in tree.with_suffix(".txt"))


def read(tree: FileTree) -> Parsed:
    """Read a source in YOLO format."""
    parsed = Parsed("yolo")
    base, config = _find_config(tree, parsed)
    splits = _listed(tree, base, config, parsed)
    names = _class_names(tree, config, parsed)
    used: set[int] = set()
    for image in tree.images:
        boxes = _boxes(tree, _label_file(tree, image), names, used, parsed)
        split = splits.get(image) if splits.declared else split_of(image)
        parsed.images.append(RawImage(path=image, boxes=boxes, split=split))
    if splits.declared:
        parsed.declared = frozenset(splits.declared)
    else:
        parsed.declared = frozenset(i.split for i in parsed.images if i.split is not None)
    parsed.classes = tuple(dict.fromkeys(names.values())) if names else _numbered(used)
    _report_orphans(tree, parsed)
    return parsed


def write(items: Sequence[ExportItem], classes: Sequence[str]) -> Iterator[ExportFile]:
    """Yield the files of a data set that Ultralytics trains on as it is."""
    used = {item.split for item in items}
    config = {split: f"images/{split}" if split in used else [] for split in SPLITS} | {
        "nc": len(classes),
        "names": dict(enumerate(classes)),
    }
    yield ExportFile("data.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    for item in items:
        lines = "".join(_line(a.class_id, a.xyxy) for a in item.annotations)
        yield ExportFile(f"labels/{item.split}/{item.stem}.txt", lines)
        yield ExportFile(f"images/{item.split}/{item.file_name}", image_id=item.image_id)


def _line(class_id: int, xyxy: tuple[float, float, float, float]) -> str:
    x1, y1, x2, y2 = xyxy
    # The middle of two numbers with six decimals has seven.
    values = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    return f"{class_id} {' '.join(f'{v:.7f}' for v in values)}\n"


def _config(tree: FileTree, name: str) -> dict[str, object] | None:
    try:
        loaded = yaml.safe_load(decode_text(tree.read(name)))
        if not isinstance(loaded, dict) or not {"names", "nc"} & set(loaded):
            return None
        config = {str(key): value for key, value in loaded.items()}
        _check_scalars(config)
    except _BROKEN_YAML:
        return None
    return config


def _check_scalars(config: dict[str, object]) -> None:
    for key, value in config.items():
        if key not in {"names", "nc"} and split_word(key) is None:
            continue
        entries: Iterable[object] = value if isinstance(value, list) else [value]
        if key == "names" and isinstance(value, dict):
            entries = [*value, *value.values()]
        for entry in entries:
            if isinstance(entry, list | dict | set):
                msg = f"{key} holds a list or mapping where a text should be"
                raise TypeError(msg)
            str(entry)  # refuses numbers of more than 4300 digits


def _find_config(tree: FileTree, parsed: Parsed) -> tuple[str, dict[str, object]]:
    names = sorted(tree.with_suffix(".yaml", ".yml"), key=lambda n: (n.count("/"), n))
    for name in names:
        config = _config(tree, name)
        if config is not None:
            _check_n_classes(name, config, parsed)
            return folder_of(name), config
    for name in names:
        parsed.reject(name, "bad_annotation", "no YAML mapping with the names of classes")
    return ".", {}


def _check_n_classes(name: str, config: dict[str, object], parsed: Parsed) -> None:
    n_classes = config.get("nc")
    if isinstance(n_classes, int) and n_classes > _MAX_CLASS:
        parsed.reject(name, "bad_annotation", f"nc is {n_classes}, the limit is {_MAX_CLASS}")
        del config["nc"]


def _class_names(tree: FileTree, config: dict[str, object], parsed: Parsed) -> dict[int, str]:
    names = config.get("names")
    if isinstance(names, list):
        return {i: str(name).strip() for i, name in enumerate(names)}
    if isinstance(names, dict):
        pairs = [(int(k), str(v).strip()) for k, v in names.items() if str(k).isdecimal()]
        return dict(sorted(pairs))
    for file in tree.names:
        if file.rsplit("/", 1)[-1].lower() == "classes.txt":
            lines = lines_of(tree, file, parsed)
            return {i: line.strip() for i, line in enumerate(lines) if line.strip()}
    n_classes = config.get("nc")
    count = n_classes if isinstance(n_classes, int) else 0
    return dict(enumerate(_numbered(range(count))))


def _numbered(used: Iterable[int]) -> tuple[str, ...]:
    return tuple(f"class_{i}" for i in range(max(used, default=-1) + 1))


def _listed(tree: FileTree, base: str, config: dict[str, object], parsed: Parsed) -> ListedSplits:
    splits = ListedSplits(parsed)
    for split, images in _named(tree, base, config, parsed).items():
        splits.declared.add(split)
        for image in images:
            splits.put(image, split)
    if not splits.declared:
        for word in sorted(split_words()):
            for name in (f"{word}.txt", f"{word.capitalize()}.txt"):
                for file in (n for n in tree.names if n.rsplit("/", 1)[-1] == name):
                    for image in _list_lines(tree, file, parsed):
                        splits.put(image, _split(word))
    return splits


def _named(
    tree: FileTree, base: str, config: dict[str, object], parsed: Parsed
) -> dict[Split, list[str]]:
    """Return the images of each split of data.yaml; an empty list says that it has none."""
    named: dict[Split, list[str]] = {}
    for key, value in config.items():
        split = split_word(key)
        if split is None or value is None:
            continue
        entries = value if isinstance(value, list) else [value]
        images = [i for entry in entries for i in _entry(tree, base, str(entry), parsed)]
        if images or not entries:
            named.setdefault(split, []).extend(images)
    kept: dict[Split, list[str]] = {}
    for split in (s for s in SPLITS if s in named):
        twin = next((s for s in kept if named[split] and set(kept[s]) == set(named[split])), None)
        if twin is None:
            kept[split] = named[split]
        else:
            parsed.reject("data.yaml", "bad_annotation", f"{split} is {twin} again: it is drawn")
    return kept


def _split(word: str) -> Split:
    split = split_word(word)
    assert split is not None  # noqa: S101 - the words come from the same table
    return split


def _entry(tree: FileTree, base: str, entry: str, parsed: Parsed) -> list[str]:
    if suffix_of(entry) == ".txt":
        file = tree.find(entry, base)
        if file is None:
            parsed.reject(entry, "bad_annotation", "data.yaml names this list, it is not there")
            return []
        return _list_lines(tree, file, parsed)
    images = tree.images_in(entry, base)
    if images is None:
        parsed.reject(entry, "bad_annotation", "data.yaml names this folder, it has no images")
    return images or []


def _list_lines(tree: FileTree, file: str, parsed: Parsed) -> list[str]:
    found: list[str] = []
    for line in lines_of(tree, file, parsed):
        if not line.strip():
            continue
        image = tree.find(line, folder_of(file))
        if image is None:
            parsed.reject(line.strip(), "missing_image", f"listed in {file}, not in the source")
        else:
            found.append(image)
    return found


def _label_file(tree: FileTree, image: str) -> str | None:
    stem = without_suffix(image)
    beside = f"/{stem}.txt"
    head, found, tail = beside.rpartition("/images/")
    candidates = [f"{head}/labels/{tail}"] if found else []
    # Folders per split as `train/x.jpg` with `labels/train/x.txt`, and files side by side.
    candidates += [f"/labels{beside}", beside]
    return next((c[1:] for c in candidates if c[1:] in tree), None)


def _image_of(tree: FileTree, label: str) -> str | None:
    if label.rsplit("/", 1)[-1].lower() in _NOT_LABELS:
        return None
    head, found, tail = f"/{without_suffix(label)}".rpartition("/labels/")
    stems = [f"{head}/images/{tail}", f"{head}/{tail}"] if found else []
    stems.append(f"/{without_suffix(label)}")
    return next((tree.image_stems[s[1:]] for s in stems if s[1:] in tree.image_stems), None)


def _report_orphans(tree: FileTree, parsed: Parsed) -> None:
    for label in tree.with_suffix(".txt"):
        in_labels = "/labels/" in f"/{label}"
        if in_labels and label.rsplit("/", 1)[-1] != "classes.txt" and not _image_of(tree, label):
            parsed.reject(label, "missing_image", "a label file without its image")


def _boxes(
    tree: FileTree, label: str | None, names: dict[int, str], used: set[int], parsed: Parsed
) -> tuple[RawBox, ...] | None:
    if label is None:
        return None
    try:
        lines = decode_text(tree.read(label)).splitlines()
    except (ValueError, OSError) as exc:
        parsed.reject(label, "bad_annotation", f"no text: {exc}")
        return None
    boxes: list[RawBox] = []
    n_bad = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            class_id, xyxy = _parse(line)
        except ValueError as exc:
            parsed.reject(label, "bad_annotation", f"line {number}: {exc}")
            n_bad += 1
            continue
        if names and class_id not in names:
            detail = f"line {number}: class {class_id}, the source names {len(names)}"
            parsed.reject(label, "unknown_class", detail)
            n_bad += 1
            continue
        used.add(class_id)
        boxes.append(RawBox(names.get(class_id, f"class_{class_id}"), xyxy, f"line {number}"))
    return None if n_bad and not boxes else tuple(boxes)


def _parse(line: str) -> tuple[int, tuple[float, float, float, float]]:
    words = line.split()
    if len(words) != 5:
        msg = f"expected 'class x y width height', found {len(words)} values"
        raise ValueError(msg)
    x, y, w, h = (float(word) for word in words[1:])
    if not all(math.isfinite(v) for v in (x, y, w, h)):
        msg = f"not a finite number in {line.strip()!r}"
        raise ValueError(msg)
    class_id = float(words[0])
    if not class_id.is_integer() or class_id < 0:
        msg = f"class {words[0]!r} is not a whole number from 0"
        raise ValueError(msg)
    if class_id > _MAX_CLASS:
        msg = f"class {words[0]} is above {_MAX_CLASS}"
        raise ValueError(msg)
    return int(class_id), (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
