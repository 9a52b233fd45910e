"""COCO: one JSON per split with images, categories and annotations.

An image that such a file lists is labelled, without annotations it is 'nothing here', unless the
file has no list of `annotations`; an image that no file lists is unlabelled. Classes are the
categories in the order of their ids. The split is in the name of the file or of its folders.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from data_service.app.core.boxes import RawBox
from data_service.app.core.formats.parsed import (
    ExportFile,
    ExportItem,
    ListedSplits,
    Parsed,
    RawImage,
)
from data_service.app.core.tree import FileTree, folder_of, split_of, split_word
from shared.models.data import SPLITS, RejectionReason, Split

_Json = dict[str, Any]


def recognises(tree: FileTree) -> bool:
    """Tell whether a JSON file of the source is one of COCO."""
    return any(_load(tree, name) is not None for name in tree.with_suffix(".json"))


def read(tree: FileTree) -> Parsed:
    """Read a source in COCO format."""
    parsed = Parsed("coco")
    splits = ListedSplits(parsed)
    classes: dict[str, None] = {}
    listed: dict[str, RawImage] = {}
    for name, document in _documents(tree, parsed):
        file = _CocoFile(tree, name, document, parsed)
        classes.update(dict.fromkeys(file.categories.values()))
        split = _split_of_file(name)
        if split is not None:
            splits.declared.add(split)
        for image in file.images():
            if split is not None:
                splits.put(image.path, split)
            listed[image.path] = _merged(listed.get(image.path), image)
    parsed.classes = tuple(classes)
    parsed.declared = frozenset(splits.declared)
    for path in tree.images:
        image = listed.get(path, RawImage(path))
        split = splits.get(path)
        parsed.images.append(RawImage(path, image.boxes, split, image.box_size))
    return parsed


def write(items: Sequence[ExportItem], classes: Sequence[str]) -> Iterator[ExportFile]:
    """Yield one JSON per split and the images in a folder per split."""
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
    box_id = 0
    for split in SPLITS:
        document: dict[str, list[_Json]] = {
            "images": [],
            "annotations": [],
            "categories": categories,
        }
        for image_id, item in enumerate((i for i in items if i.split == split), start=1):
            file_name = f"images/{split}/{item.file_name}"
            size = {"width": item.width, "height": item.height}
            document["images"].append({"id": image_id, "file_name": file_name, **size})
            for annotation in item.annotations:
                box_id += 1
                box = _box(annotation.xyxy, item)
                document["annotations"].append(
                    {
                        "id": box_id,
                        "image_id": image_id,
                        "category_id": annotation.class_id + 1,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
            yield ExportFile(file_name, image_id=item.image_id)
        yield ExportFile(f"annotations/instances_{split}.json", json.dumps(document))


def _box(xyxy: tuple[float, float, float, float], item: ExportItem) -> list[float]:
    x1, y1, x2, y2 = xyxy
    pixels = (x1 * item.width, y1 * item.height, (x2 - x1) * item.width, (y2 - y1) * item.height)
    return [round(value, 8) for value in pixels]


def _load(tree: FileTree, name: str) -> _Json | None:
    try:
        document = json.loads(tree.read(name))
    except (ValueError, RecursionError, OSError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        return None
    # Captions have annotations without categories; a list of images to label has neither.
    if "categories" not in document and "annotations" in document:
        return None
    return document


def _documents(tree: FileTree, parsed: Parsed) -> list[tuple[str, _Json]]:
    documents = []
    for name in tree.with_suffix(".json"):
        document = _load(tree, name)
        if document is None:
            parsed.reject(name, "bad_annotation", "no COCO JSON with images and categories")
        else:
            documents.append((name, document))
    # Beside instances_*.json COCO ships the same images as key points and as stuff.
    wanted = ("instances_", "image_info")
    instances = [d for d in documents if d[0].rsplit("/", 1)[-1].startswith(wanted)]
    return instances or documents


def _split_of_file(name: str) -> Split | None:
    words = re.split(r"[^a-z]+", name.rsplit("/", 1)[-1].lower())
    return next((s for s in map(split_word, reversed(words)) if s is not None), split_of(name))


def _merged(before: RawImage | None, image: RawImage) -> RawImage:
    if before is None or before.boxes is None:
        return image
    boxes = before.boxes + tuple(b for b in image.boxes or () if b not in before.boxes)
    return RawImage(before.path, boxes, before.split, before.box_size)


class _CocoFile:
    """One annotation file."""

    def __init__(self, tree: FileTree, name: str, document: _Json, parsed: Parsed) -> None:
        self._tree = tree
        self._name = name
        self._document = document
        self._parsed = parsed
        self.categories = self._categories()

    def images(self) -> Iterator[RawImage]:
        """Yield the images that are there, with their boxes."""
        boxes, n_bad = self._boxes()
        labelled = isinstance(self._document.get("annotations"), list)
        for entry in self._document["images"]:
            if not isinstance(entry, dict) or "file_name" not in entry or "id" not in entry:
                self._bad(f"an image without id and file_name: {str(entry)[:100]}")
                continue
            file_name, key = str(entry["file_name"]), str(entry["id"])
            path = self._tree.find(file_name, folder_of(self._name))
            if path is None:
                detail = f"listed in {self._name}, not in the source"
                self._parsed.reject(file_name, "missing_image", detail)
                continue
            found = boxes.get(key, ())
            lost = not found and n_bad[key]
            size = (_whole(entry.get("width")), _whole(entry.get("height")))
            yield RawImage(path, None if lost or not labelled else tuple(found), None, size)
        self._report_orphans(boxes)

    def _report_orphans(self, boxes: dict[str, list[RawBox]]) -> None:
        known = {
            str(e["id"]) for e in self._document["images"] if isinstance(e, dict) and "id" in e
        }
        for key in boxes.keys() - known:
            for box in boxes[key]:
                self._bad(f"{box.label}: image_id {key} is not listed", "missing_image")

    def _categories(self) -> dict[str, str]:
        found: list[tuple[int, str]] = []
        for entry in self._list("categories"):
            try:
                found.append((int(entry["id"]), str(entry["name"]).strip()))
            except (KeyError, TypeError, ValueError, OverflowError):
                self._bad(f"a category without id and name: {str(entry)[:100]}")
        return {str(key): name for key, name in sorted(found)}

    def _boxes(self) -> tuple[dict[str, list[RawBox]], dict[str, int]]:
        boxes: dict[str, list[RawBox]] = defaultdict(list)
        n_bad: dict[str, int] = defaultdict(int)
        for i, entry in enumerate(self._list("annotations")):
            try:
                image, box = self._annotation(i, entry)
            except (KeyError, TypeError, ValueError, OverflowError) as exc:
                key = str(entry.get("image_id")) if isinstance(entry, dict) else ""
                n_bad[key] += 1
                detail = f"no {exc}" if isinstance(exc, KeyError) else str(exc)
                self._bad(f"annotation {_id(entry, i)}: {detail}")
            else:
                boxes[image].append(box)
        return boxes, n_bad

    def _list(self, key: str) -> list[Any]:
        value = self._document.get(key)
        if value is None or isinstance(value, list):
            return value or []
        self._bad(f"{key} is not a list: {str(value)[:100]}")
        return []

    def _annotation(self, i: int, entry: object) -> tuple[str, RawBox]:
        if not isinstance(entry, dict):
            msg = f"not an object: {str(entry)[:100]!r}"
            raise TypeError(msg)
        bbox = entry.get("bbox")
        if entry.get("iscrowd"):
            msg = "a crowd region is not one object"
            raise ValueError(msg)
        if not bbox:
            msg = "no bbox (only a mask or nothing)"
            raise ValueError(msg)
        attributes = entry.get("attributes")
        rotation = attributes.get("rotation") if isinstance(attributes, dict) else None
        if len(bbox) != 4 or rotation:
            msg = f"not an upright box: {bbox}"
            raise ValueError(msg)
        x, y, w, h = (float(value) for value in bbox)
        if not all(math.isfinite(value) for value in (x, y, w, h)):
            msg = f"not a finite number in {bbox}"
            raise ValueError(msg)
        category = str(entry["category_id"])
        # A category that the file does not name is refused later, as an unknown class.
        class_name = self.categories.get(category, f"category {category}")
        label = f"annotation {_id(entry, i)}"
        return str(entry["image_id"]), RawBox(class_name, (x, y, x + w, y + h), label)

    def _bad(self, detail: str, reason: RejectionReason = "bad_annotation") -> None:
        self._parsed.reject(self._name, reason, detail)


def _id(entry: object, i: int) -> str:
    return str(entry.get("id", i)) if isinstance(entry, dict) else str(i)


def _whole(value: object) -> int:
    if isinstance(value, float):
        return int(value) if math.isfinite(value) else 0
    return value if isinstance(value, int) else 0
