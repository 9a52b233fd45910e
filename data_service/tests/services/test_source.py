import gzip
import os
from pathlib import Path

import pytest

from data_service.app.services.source import Reader, UnknownPath, clear_work, open_source
from data_service.app.wiring import Dependencies
from data_service.tests.builders import png, zipped
from shared.models.data import IngestionCreate


def reader_of(deps: Dependencies) -> Reader:
    return Reader(
        deps.settings,
        deps.database,
        deps.store,
        deps.remote,
        "farm",
        "job",
        lambda f, message: None,
    )


def test_an_archive_is_unpacked_into_a_folder_of_its_job_that_is_removed(
    deps: Dependencies, tmp_path: Path
) -> None:
    path = tmp_path / "roots" / "set.zip"
    path.write_bytes(zipped({"a.png": png(1)}))
    work = deps.settings.state_dir / "ingestions"
    left = work / "job" / "files" / "of_a_killed_attempt.png"
    left.parent.mkdir(parents=True)
    left.write_bytes(png(2))
    reader = reader_of(deps)
    with open_source(reader, IngestionCreate(path=str(path))) as source:
        assert source.tree.names == ("a.png",)
        assert source.tree.root == work.resolve() / "job" / "files"
    assert list(work.iterdir()) == []


def test_what_jobs_that_ended_left_behind_is_removed(deps: Dependencies) -> None:
    clear_work(deps.settings, lambda job_id: True)
    work = deps.settings.state_dir / "ingestions"
    for job_id in ("ended", "running"):
        (work / job_id / "files").mkdir(parents=True)
    clear_work(deps.settings, lambda job_id: job_id == "ended")
    assert [folder.name for folder in work.iterdir()] == ["running"]


def test_a_named_pipe_is_no_source(deps: Dependencies, tmp_path: Path) -> None:
    path = tmp_path / "roots" / "pipe.zip"
    os.mkfifo(path)
    reader = reader_of(deps)
    with (
        pytest.raises(UnknownPath, match=r"unknown path: '.*/pipe.zip'"),
        open_source(reader, IngestionCreate(path=str(path))),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "data", "detail"),
    [
        (
            "set.gz",
            gzip.compress(b"tar", mtime=0),
            "packed by gzip: read if it is a tar called .tar.gz",
        ),
        ("set.xz", b"\xfd7zXZ\0", "packed by xz: read if it is a tar called .tar.xz"),
        ("set.gz", b"text", "named .gz, but is none"),
        ("set.tar", b"text", "named .tar, but is none"),
    ],
    ids=["gzip", "xz", "text", "no tar"],
)
def test_an_archive_that_is_called_by_a_wrong_name_is_told_the_right_one(
    deps: Dependencies, tmp_path: Path, name: str, data: bytes, detail: str
) -> None:
    path = tmp_path / "roots" / name
    path.write_bytes(data)
    with open_source(reader_of(deps), IngestionCreate(path=str(path))) as source:
        assert [(r.reason, r.detail) for r in source.rejected] == [("unreadable", detail)]
