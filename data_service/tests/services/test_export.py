import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from data_service.app.core.formats.detect import ExportFormat
from data_service.app.services.export import export_version
from data_service.app.services.projects import create_project
from data_service.app.services.versions import get_version
from data_service.app.wiring import Dependencies
from data_service.tests.builders import encoded, noise, png, yolo_files
from shared.models.data import IngestionReport, ProjectCreate, SplitFractions

IngestFiles = Callable[..., IngestionReport]


def _varied() -> dict[str, bytes | str]:
    """Return images of every kind and boxes that do not end at six decimals."""
    exif = Image.Exif()
    exif[0x0112] = 6
    files = yolo_files(20) | {
        "images/train/p0.png": png(40),
        "labels/train/p0.txt": "1 0.3333333 0.5 0.1234567 0.7777777\n0 0.5 0.5 1 1\n",
        "images/empty.png": png(41),
        "labels/empty.txt": "",
        "images/turned.jpg": encoded(noise(42), "JPEG", exif=exif),
        "labels/turned.txt": "1 0.25 0.5 0.5 0.1\n",
        "images/alpha.png": encoded(noise(43).convert("RGBA")),
        "labels/alpha.txt": "0 0.7078125 0.5 0.5 0.1\n",
    }
    return files | {"data.yaml": "names: [zebra, unused, ant]\n"}


@pytest.mark.parametrize("kind", ["yolo", "coco", "voc"])
def test_an_export_ingested_again_has_the_same_content_hash(
    deps: Dependencies,
    ingest_files: IngestFiles,
    ingest_path: IngestFiles,
    tmp_path: Path,
    kind: ExportFormat,
) -> None:
    create_project(deps.database, ProjectCreate(name="source"))
    # Other fractions: the splits must come from the lists of the export.
    other = SplitFractions(val=0.4, gate=0.1, test=0.3)
    create_project(deps.database, ProjectCreate(name="copy", splits=other, seed=9))
    first = ingest_files(_varied(), "source")
    assert first.rejected == ()
    path = export_version(deps.database, deps.store, "source", 1, kind)
    moved = path.rename(tmp_path / "roots" / f"{kind}.zip")
    report = ingest_path(moved, "copy")
    assert report.rejected == ()
    assert (report.format, report.n_added) == (kind, 24)
    assert report.classes == ("zebra", "unused", "ant")
    source, copy = (get_version(deps.database, name, 1) for name in ("source", "copy"))
    assert copy.content_hash == source.content_hash
    assert copy.n_images == source.n_images


def test_a_yolo_export_is_what_ultralytics_reads(
    deps: Dependencies, ingest_files: IngestFiles
) -> None:
    ingest_files({"data.yaml": "names: [a]", "x.png": png(1), "x.txt": "0 .5 .5 .25 .5"})
    path = export_version(deps.database, deps.store, "farm", 1, "yolo")
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == [
            "data.yaml",
            "images/train/x.png",
            "labels/train/x.txt",
        ]
        config = yaml.safe_load(archive.read("data.yaml"))
        label = archive.read("labels/train/x.txt")
        assert archive.read("images/train/x.png") == png(1)
    path.unlink()
    assert config == {
        "train": "images/train",
        "val": [],
        "gate": [],
        "test": [],
        "nc": 1,
        "names": {0: "a"},
    }
    assert label == b"0 0.5000000 0.5000000 0.2500000 0.5000000\n"
