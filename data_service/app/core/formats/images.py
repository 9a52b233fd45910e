"""Images alone: everything is unlabelled; folders called train, val, gate, test are its lists."""

from data_service.app.core.formats.parsed import Parsed, RawImage
from data_service.app.core.tree import FileTree, split_of


def read(tree: FileTree) -> Parsed:
    """Read every image of a source without labels."""
    images = [RawImage(path=name, split=split_of(name)) for name in tree.images]
    declared = frozenset(image.split for image in images if image.split is not None)
    parsed = Parsed("images", images=images, declared=declared)
    for name in tree.with_suffix(".json", ".xml"):
        parsed.reject(name, "bad_annotation", "no annotations in a format we read")
    return parsed
