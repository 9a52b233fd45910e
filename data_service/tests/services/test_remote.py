import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data_service.app.services import remote
from data_service.app.services.ingestion import EmptySource, Ingestion, ingest_once
from data_service.app.services.source import Remote
from data_service.app.services.uploads import UnknownUpload, require_upload, save_upload
from data_service.app.wiring import Dependencies
from data_service.tests.builders import encoded, noise, png, yolo_files
from shared import fetch
from shared.errors import BackendUnavailable, BadRequest, Forbidden
from shared.fetch import Fetcher
from shared.models.data import IngestionCreate, IngestionReport
from shared.objects.s3 import S3Bucket, S3Store
from shared.tests.seaweedfs import s3_endpoint, s3_location

__all__ = ["s3_endpoint"]

FILES = {
    "/a.png": png(1),
    "/no%20extension?id=7": encoded(noise(2), "JPEG"),
    "/says-png.png": encoded(noise(3), "JPEG"),
    "/page.html": b"<html>",
}


class Images(ThreadingHTTPServer):
    """Gives images; each `/busy` is busy at first, and `/never` is for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://localhost:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Images)
        server.asked.append(self.path)
        busy = self.path == "/never" or (self.path == "/busy" and server.asked.count("/busy") < 3)
        body = FILES.get(self.path, FILES["/a.png"] if self.path == "/busy" else None)
        self.send_response(503 if busy else 404 if body is None else 200)
        self.end_headers()
        self.wfile.write(b"" if busy else body or b"")

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> Iterator[Images]:
    monkeypatch.setattr(fetch, "LONGEST_WAIT_S", 0.01)
    server = Images()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def ingest_urls(
    deps: Dependencies, images: Images, tmp_path: Path
) -> Callable[..., IngestionReport]:
    fetcher = Fetcher(1 << 20, [f"localhost:{images.server_port}"])
    parts = replace(deps.ingestion, remote=replace(deps.remote, fetcher=fetcher))

    def run(
        *lines: str,
        job: str = "job",
        upload: str | None = None,
        progress: remote.Progress = lambda share, message: None,
    ) -> IngestionReport:
        path = tmp_path / "urls.txt"
        path.write_text("\n".join(lines))
        if upload is None:
            with path.open("rb") as file:
                upload = save_upload(deps.database, deps.store, "farm", file, path.name).upload_id
        request = IngestionCreate(urls_upload_id=upload)
        return ingest_once(parts, Ingestion(job, "farm", request), progress)

    return run


def test_a_list_of_addresses_is_downloaded_and_ingested(
    ingest_urls: Callable[..., IngestionReport], images: Images, deps: Dependencies
) -> None:
    paths = ["/a.png", "/no%20extension?id=7", "/says-png.png", "/page.html", "/none.png", "/busy"]
    report = ingest_urls(
        *(images.url(path) for path in paths), "", "http://127.0.0.1:1/x.png", "file:///etc/passwd"
    )
    # The busy one is the first again.
    assert (report.n_added, report.n_files) == (3, 4)
    assert images.asked.count("/busy") == 3
    [page] = [r for r in report.rejected if r.reason == "unsupported"]
    assert page.name == images.url("/page.html")
    unreachable = {r.name: r.detail for r in report.rejected if r.reason == "unreachable"}
    assert set(unreachable) == {
        images.url("/none.png"),
        "http://127.0.0.1:1/x.png",
        "file:///etc/passwd",
    }
    assert "answered 404" in unreachable[images.url("/none.png")]
    assert "not a host of the public internet" in unreachable["http://127.0.0.1:1/x.png"]
    stored = {key.rpartition("/")[2].partition(".")[0] for key in deps.store.list("projects/farm/")}
    expected = {hashlib.sha256(FILES[path]).hexdigest() for path in paths[:3]}
    assert expected <= stored
    assert not list((deps.settings.state_dir / "ingestions").iterdir())


def test_a_killed_download_goes_on_and_asks_for_nothing_twice(
    ingest_urls: Callable[..., IngestionReport], images: Images, deps: Dependencies
) -> None:
    lines = [images.url(path) for path in ("/a.png", "/no%20extension?id=7", "/says-png.png")]

    class Killed(Exception):
        pass

    def killed_when_down(share: float, message: str) -> None:
        if message.startswith("downloading: 3"):
            raise Killed

    with pytest.raises(Killed):
        ingest_urls(*lines, progress=killed_when_down)
    (left,) = deps.store.list("projects/farm/uploads/")
    upload = left.rpartition("/")[2]
    report = ingest_urls(upload=upload)
    assert report.n_added == 3
    assert sorted(images.asked) == sorted(set(images.asked))
    with pytest.raises(UnknownUpload):
        require_upload(deps.database, "farm", upload)


def test_a_list_without_addresses_has_failed(
    ingest_urls: Callable[..., IngestionReport],
) -> None:
    with pytest.raises(EmptySource, match=r"^nothing in urls\.txt$"):
        ingest_urls("", "  ")


def test_an_address_that_stays_busy_is_reported(
    ingest_urls: Callable[..., IngestionReport], images: Images
) -> None:
    report = ingest_urls(images.url("/a.png"), images.url("/never"))
    assert report.n_added == 1
    [rejection] = report.rejected
    url = images.url("/never")
    assert (rejection.name, rejection.reason) == (url, "unreachable")
    assert rejection.detail == f"{url!r}: answered 503"
    assert images.asked.count("/never") == 4


def test_a_prefix_of_s3_comes_with_its_folders_and_labels(
    deps: Dependencies, s3_endpoint: str
) -> None:
    name = f"theirs-{uuid.uuid4().hex}"
    store = S3Store(s3_location(s3_endpoint, name))
    store.ensure_bucket()
    for path, content in yolo_files(2).items():
        data = content.encode() if isinstance(content, str) else content
        store._client.put_object(Bucket=name, Key=f"sets/farm one/{path}", Body=data)
    store._client.put_object(Bucket=name, Key="sets/other/b.png", Body=png(9))
    settings = deps.settings.model_copy(update={"ingest_s3": f"s3://{name}/sets/"})
    there = Remote(deps.remote.fetcher, lambda bucket: S3Bucket(s3_location(s3_endpoint, bucket)))
    parts = replace(deps.ingestion, settings=settings, remote=there)
    request = IngestionCreate(s3=f"s3://{name}/sets/farm one/")
    report = ingest_once(parts, Ingestion("job", "farm", request), lambda share, message: None)
    assert (report.format, report.n_added) == ("yolo", 2)
    assert report.n_boxes > 0
    empty = Ingestion("empty", "farm", IngestionCreate(s3=f"s3://{name}/sets/none/"))
    with pytest.raises(EmptySource, match=f"^nothing under s3://{name}/sets/none/$"):
        ingest_once(parts, empty, lambda share, message: None)


class Listed:
    """A bucket whose keys are as bad as S3 allows."""

    def objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        keys = ("sets/../../up.png", "sets//abs.png", "sets/a", "sets/a/b.png", "sets/folder/")
        yield from ((key, 1) for key in (*keys, "sets-private/c.png", "sets/" + "d" * 300))

    def download(self, key: str, target: Path) -> None:
        target.write_bytes(png(1))


@pytest.mark.parametrize("prefix", ["sets/", "sets"])
def test_a_key_that_climbs_out_or_is_a_file_and_a_folder_is_refused_by_name(
    tmp_path: Path, prefix: str
) -> None:
    found = remote.of_bucket(Listed(), prefix, tmp_path / "files", 100)
    rejected = remote.download_all(found, None, lambda share, message: None)
    reasons = {r.name: r.reason for r in rejected}
    assert reasons.pop("sets/../../up.png") == "unsafe_path"
    assert reasons.pop("sets/" + "d" * 300) == "unsafe_path"
    if prefix == "sets/":
        assert reasons.pop("sets//abs.png") == "unsafe_path"
    assert "sets-private/c.png" not in reasons
    assert list(reasons.values()) == ["unsafe_path"]
    names = {p.name for p in (tmp_path / "files").rglob("*") if p.is_file()}
    assert names <= {"a", "b.png", "abs.png"}
    assert len(names & {"a", "b.png"}) == 1
    assert not (tmp_path / "up.png").exists()


class Mixed:
    """A bucket with more in it than is read, which says what was downloaded."""

    def __init__(self) -> None:
        self.downloaded: list[str] = []

    def objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        sizes = {"film.MP4": 1, "set.zip": 1, "huge.png": 101, "fits.png": 100, "a.json": 101}
        yield from ((prefix + name, n_bytes) for name, n_bytes in sizes.items())

    def download(self, key: str, target: Path) -> None:
        self.downloaded.append(key)
        target.write_bytes(png(1))


def test_what_a_listing_shows_to_be_refused_is_not_downloaded(tmp_path: Path) -> None:
    bucket = Mixed()
    found = remote.of_bucket(bucket, "in/", tmp_path / "files", max_bytes=100)
    rejected = remote.download_all(found, None, lambda share, message: None)
    assert [(r.name, r.reason, r.detail) for r in rejected] == [
        ("in/film.MP4", "unsupported", "a kind of file that is not read"),
        ("in/huge.png", "oversized", "101 bytes, the limit is 100"),
        ("in/set.zip", "unsupported", "a kind of file that is not read"),
    ]
    assert sorted(bucket.downloaded) == ["in/a.json", "in/fits.png"]


def test_s3_that_does_not_answer_lets_the_job_wait(deps: Dependencies) -> None:
    settings = deps.settings.model_copy(update={"ingest_s3": "s3://theirs"})
    nowhere = Remote(
        deps.remote.fetcher, lambda bucket: S3Bucket(s3_location("http://127.0.0.1:1", bucket))
    )
    parts = replace(deps.ingestion, settings=settings, remote=nowhere)
    ingestion = Ingestion("job", "farm", IngestionCreate(s3="s3://theirs/a/"))
    with pytest.raises(BackendUnavailable, match="s3://theirs at http://127"):
        ingest_once(parts, ingestion, lambda share, message: None)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("s3://theirs", None),
        ("s3://theirs/a/b", None),
        ("s3://shared/sets/a", None),
        ("s3://theirs-too/a", Forbidden),
        ("s3://shared/setsandmore", Forbidden),
        ("s3://shared", Forbidden),
        ("s3://", BadRequest),
        ("https://theirs/a", BadRequest),
        ("", BadRequest),
        ("s3://theirs/a/../b", BadRequest),
    ],
)
def test_only_allowed_prefixes_are_read(
    deps: Dependencies, given: str, error: type[Exception] | None
) -> None:
    from data_service.app.services.source import allowed_prefix

    settings = deps.settings.model_copy(update={"ingest_s3": "s3://theirs, s3://shared/sets/"})
    if error is None:
        assert allowed_prefix(settings, given)[0] in {"theirs", "shared"}
        return
    with pytest.raises(error, match=repr(given)):
        allowed_prefix(settings, given)
