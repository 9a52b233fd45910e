"""On real photographs with their own lists, two broken boxes and one pair of near-duplicates."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_service.app.services.ingestion import Ingestion, ingest
from data_service.app.services.projects import create_project
from data_service.app.services.versions import get_version
from data_service.app.wiring import build
from shared.database import Base
from shared.models.data import IngestionCreate, IngestionReport, ProjectCreate
from shared.settings import Settings

_BESIDE = Path(__file__).parents[3] / ".." / "shared" / "data" / "bccd"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngestionReport]:
    folder = Path(os.environ.get("FOVEA_BCCD", _BESIDE)).resolve()
    if not folder.is_dir():
        pytest.skip(f"the BCCD data set is not at {folder} (set FOVEA_BCCD)")
    tmp_path = tmp_path_factory.mktemp("bccd")
    settings = Settings(
        database_url=f"sqlite:///{tmp_path}/fovea.db",
        object_store_url=f"file:{tmp_path}/objects",
        ingest_roots=str(folder),
    )
    deps = build(settings)
    Base.metadata.create_all(deps.database.engine)
    create_project(deps.database, ProjectCreate(name="bccd"))
    ingestion = Ingestion("job", "bccd", IngestionCreate(path=str(folder), as_oracle=True))
    yield ingest(deps.ingestion, ingestion, lambda fraction, message: None)
    version = get_version(deps.database, "bccd", 1)
    assert version.n_images == {"train": 0, "val": 44, "gate": 43, "test": 72}
    deps.close()


@pytest.mark.bccd
def test_the_two_degenerate_boxes_are_named(report: IngestionReport) -> None:
    assert [(Path(r.name).name, r.reason) for r in report.rejected] == [
        ("BloodImage_00338.jpg", "degenerate_box"),
        ("BloodImage_00343.jpg", "degenerate_box"),
    ]


@pytest.mark.bccd
def test_the_one_near_duplicate_pair_is_named_as_crossing(report: IngestionReport) -> None:
    [pair] = report.near_duplicates
    assert (pair.first, pair.second) == ("BloodImage_00037.jpg", "BloodImage_00038.jpg")
    assert pair.crosses
    assert "train" in pair.splits


@pytest.mark.bccd
def test_the_given_lists_are_kept_and_val_is_halved(report: IngestionReport) -> None:
    assert (report.format, report.n_files, report.n_added, report.n_boxes) == (
        "voc",
        364,
        364,
        4886,
    )
    assert report.n_by_split == {"train": 205, "val": 44, "gate": 43, "test": 72}
    assert report.classes == ("Platelets", "RBC", "WBC")
