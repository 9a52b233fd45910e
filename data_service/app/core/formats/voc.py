"""PASCAL VOC: an XML file per image in Annotations/, lists in ImageSets/Main/.

An XML file without objects means 'nothing here'; an image without XML file is unlabelled. Classes
are the names of all objects, sorted, unless a classes.txt gives their order. Splits are those of
train.txt, val.txt, gate.txt, test.txt; trainval.txt is train where there is no train.txt.
Pixel coordinates are taken as they are: most tools count from 0, and where one counts from 1 the
difference is less than a box is exact.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from data_service.app.core.boxes import Box, RawBox
from data_service.app.core.formats.parsed import (
    ExportFile,
    ExportItem,
    ListedSplits,
    Parsed,
    RawImage,
    lines_of,
)
from data_service.app.core.tree import FileTree, folder_of, join, split_of, split_word
from shared.models.data import SPLITS

_FOLDER = "Annotations"
_LISTS = "ImageSets/Main"
# LookupError is an encoding that nobody knows.
_BROKEN_XML = (ParseError, DefusedXmlException, ValueError, LookupError, OSError)
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def recognises(tree: FileTree) -> bool:
    """Tell whether a source has XML files in Annotations/, or any that is an `annotation`."""
    names = tree.with_suffix(".xml")
    if any(_FOLDER in PurePosixPath(name).parts[:-1] for name in names):
        return True
    return any(_is_annotation(tree, name) for name in names[:100])


def read(tree: FileTree) -> Parsed:
    """Read a source in PASCAL VOC format."""
    parsed = Parsed("voc")
    splits = _listed(tree, parsed)
    labelled: dict[str, RawImage] = {}
    for name in tree.with_suffix(".xml"):
        image = _read_file(tree, name, parsed)
        if image is not None:
            labelled[image.path] = image
    for path in tree.images:
        image = labelled.get(path, RawImage(path))
        split = splits.get(path) if splits.declared else split_of(path)
        parsed.images.append(RawImage(path, image.boxes, split, image.box_size))
    declared = splits.declared or {i.split for i in parsed.images if i.split is not None}
    parsed.declared = frozenset(declared)
    parsed.classes = _classes(tree, parsed)
    return parsed


def write(items: Sequence[ExportItem], classes: Sequence[str]) -> Iterator[ExportFile]:
    """Yield annotations, images and lists; classes.txt keeps the order of the classes."""
    yield ExportFile("classes.txt", "".join(f"{name}\n" for name in classes))
    for split in SPLITS:
        lines = "".join(f"{item.stem}\n" for item in items if item.split == split)
        yield ExportFile(f"{_LISTS}/{split}.txt", lines)
    for item in items:
        yield ExportFile(f"{_FOLDER}/{item.stem}.xml", _document(item, classes))
        yield ExportFile(f"JPEGImages/{item.file_name}", image_id=item.image_id)


def _document(item: ExportItem, classes: Sequence[str]) -> str:
    root = Element("annotation")
    SubElement(root, "folder").text = "JPEGImages"
    SubElement(root, "filename").text = item.file_name
    size = SubElement(root, "size")
    for tag, number in (("width", item.width), ("height", item.height), ("depth", 3)):
        SubElement(size, tag).text = str(number)
    for annotation in item.annotations:
        element = SubElement(root, "object")
        SubElement(element, "name").text = classes[annotation.class_id]
        SubElement(element, "difficult").text = "0"
        box = SubElement(element, "bndbox")
        scale = (item.width, item.height) * 2
        for side, value, pixels in zip(_SIDES, annotation.xyxy, scale, strict=True):
            SubElement(box, side).text = f"{value * pixels:.8f}".rstrip("0").rstrip(".")
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def _is_annotation(tree: FileTree, name: str) -> bool:
    try:
        return str(fromstring(tree.read(name)).tag) == "annotation"
    except _BROKEN_XML:
        return False


def _listed(tree: FileTree, parsed: Parsed) -> ListedSplits:
    splits = ListedSplits(parsed)
    lists = [n for n in tree.with_suffix(".txt") if folder_of(n).endswith(_LISTS)]
    has_train = any(PurePosixPath(n).stem == "train" for n in lists)
    for name in lists:
        stem = PurePosixPath(name).stem
        split = "train" if stem == "trainval" and not has_train else split_word(stem)
        if split is None:
            continue
        splits.declared.add(split)
        root = _root(folder_of(name), "ImageSets")
        for line in lines_of(tree, name, parsed):
            if not line.strip():
                continue
            image = _listed_image(tree, root, line)
            if image is None:
                detail = f"listed in {name}, not in the source"
                parsed.reject(line.strip(), "missing_image", detail)
            else:
                splits.put(image, split)
    return splits


def _listed_image(tree: FileTree, root: str, line: str) -> str | None:
    # Lists of one class have `name 1` or `name -1`; names may hold spaces.
    for stem in (line.strip(), line.split(maxsplit=1)[0]):
        found = _image(tree, root, stem) or tree.find(stem, root)
        if found is not None:
            return found
    return None


def _root(folder: str, marker: str) -> str:
    parts = PurePosixPath(folder).parts
    if marker not in parts:
        return folder
    return "/".join(parts[: parts.index(marker)]) or "."


def _image(tree: FileTree, root: str, stem: str) -> str | None:
    for folder in ("JPEGImages", "images", "Images"):
        found = tree.image_stems.get(join(join(root, folder), stem))
        if found is not None:
            return found
    return tree.image_stems.get(join(root, stem))


def _read_file(tree: FileTree, name: str, parsed: Parsed) -> RawImage | None:
    try:
        root: Element = fromstring(tree.read(name))
    except _BROKEN_XML as exc:
        parsed.reject(name, "bad_annotation", f"no readable XML: {type(exc).__name__}: {exc}")
        return None
    if root.tag != "annotation":
        parsed.reject(name, "bad_annotation", f"the root is <{root.tag}>, not <annotation>")
        return None
    base = _root(folder_of(name), _FOLDER)
    within = PurePosixPath(name).relative_to(base).with_suffix("")
    stem = str(within).removeprefix(f"{_FOLDER}/")
    file_name = (root.findtext("filename") or "").strip()
    path = _image(tree, base, stem) or (tree.find(file_name, base) if file_name else None)
    if path is None:
        parsed.reject(
            name, "missing_image", f"the image {file_name or stem!r} is not in the source"
        )
        return None
    boxes = _boxes(root, path, parsed)
    return RawImage(path, boxes, None, _size(root))


def _size(root: Element) -> tuple[int, int]:
    try:
        return int(root.findtext("size/width") or 0), int(root.findtext("size/height") or 0)
    except ValueError:
        return 0, 0


def _boxes(root: Element, path: str, parsed: Parsed) -> tuple[RawBox, ...] | None:
    boxes: list[RawBox] = []
    elements = root.findall("object")
    for number, element in enumerate(elements, start=1):
        label = f"object {number}"
        class_name = (element.findtext("name") or "").strip()
        try:
            xyxy = _xyxy(element)
        except ValueError as exc:
            parsed.reject(path, "bad_annotation", f"{label} ({class_name}): {exc}")
            continue
        if not class_name:
            parsed.reject(path, "bad_annotation", f"{label}: no name")
            continue
        boxes.append(RawBox(class_name, xyxy, label))
    return None if elements and not boxes else tuple(boxes)


def _xyxy(element: Element) -> Box:
    box = element.find("bndbox")
    angle = element.findtext("bndbox/angle") or element.findtext("angle") or "0"
    if element.find("robndbox") is not None or float(angle) != 0:
        msg = "a rotated box"
        raise ValueError(msg)
    if box is None:
        msg = "no bndbox"
        raise ValueError(msg)
    values = []
    for side in _SIDES:
        text = (box.findtext(side) or "").strip()
        value = float(text) if text else math.nan
        if not math.isfinite(value):
            msg = f"{side} is {text!r}"
            raise ValueError(msg)
        values.append(value)
    x1, y1, x2, y2 = values
    return x1, y1, x2, y2


def _classes(tree: FileTree, parsed: Parsed) -> tuple[str, ...]:
    used = sorted({b.class_name for i in parsed.images for b in i.boxes or ()})
    ordered: list[str] = []
    file = next((n for n in tree.names if PurePosixPath(n).name == "classes.txt"), None)
    if file is not None:
        lines = lines_of(tree, file, parsed)
        ordered = [line.strip() for line in lines if line.strip()]
    return tuple(dict.fromkeys([*ordered, *used]))
