"""Against a real SeaweedFS from its wheel."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from shared.errors import BackendUnavailable
from shared.objects.contract import ObjectStoreContract
from shared.objects.s3 import S3Location, S3Store
from shared.tests.ports import free_ports

PORT_FLAGS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)
OFF_FLAGS = (
    "-admin.ui=false",
    "-webdav=false",
    "-master.telemetry=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-volume.preStopSeconds=0",
)
ACCESS, SECRET = "fovea-access", "fovea-secret-of-the-tests"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("seaweedfs")
    ports = dict(zip(PORT_FLAGS, free_ports(len(PORT_FLAGS)), strict=True))
    command = [
        str(Path(sys.executable).with_name("weed")),
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{flag}={port}" for flag, port in ports.items()),
        *OFF_FLAGS,
    ]
    keys = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "GOMEMLIMIT": "200MiB"}
    url = f"http://127.0.0.1:{ports['s3.port']}"
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | keys, stdout=log, stderr=log, cwd=folder
        )
        try:
            _wait(S3Store(_location(url, "ready")), process, folder / "log.txt")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(store: S3Store, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            store.check()
            store.put("ready", b"")
        except BackendUnavailable:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"SeaweedFS did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        else:
            return


def _location(url: str, bucket: str, secret: str = SECRET) -> S3Location:
    return S3Location(
        bucket, endpoint_url=url, access_key=SecretStr(ACCESS), secret_key=SecretStr(secret)
    )


@pytest.fixture
def store(endpoint: str) -> S3Store:
    return S3Store(_location(endpoint, f"fovea-{uuid.uuid4().hex}"))


class TestS3Store(ObjectStoreContract):
    pass


def test_a_signed_url_reads_without_a_key_until_its_time(store: S3Store) -> None:
    store.put("a/b.jpg", b"jpeg", "image/jpeg")
    short, long = store.signed_url("a/b.jpg", 1), store.signed_url("a/b.jpg", 600)
    time.sleep(2.1)
    answer = httpx2.get(long)
    assert (answer.status_code, answer.content) == (200, b"jpeg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert httpx2.get(short).status_code == 403


def test_a_signed_url_that_was_changed_is_refused(store: S3Store) -> None:
    store.put("a/b.jpg", b"jpeg")
    store.put("a/c.jpg", b"other")
    url = store.signed_url("a/b.jpg", 600)
    assert httpx2.get(url.replace("b.jpg", "c.jpg")).status_code == 403
    assert httpx2.get(url.replace("Expires=600", "Expires=601")).status_code == 403
    assert httpx2.get(url.partition("?")[0]).status_code == 403


def test_a_wrong_secret_is_unavailable_by_name(endpoint: str) -> None:
    store = S3Store(_location(endpoint, "fovea", secret="wrong"))
    with pytest.raises(BackendUnavailable, match=r"object store \(s3://fovea at http://127"):
        store.check()


def test_a_store_that_is_down_is_unavailable_by_name() -> None:
    (port,) = free_ports(1)
    store = S3Store(_location(f"http://127.0.0.1:{port}", "fovea"))
    expected = rf"object store \(s3://fovea at http://127.0.0.1:{port}\)"
    with pytest.raises(BackendUnavailable, match=expected):
        store.check()
    with pytest.raises(BackendUnavailable, match=expected):
        store.get("a")
    with pytest.raises(BackendUnavailable, match=expected):
        list(store.list())


def test_a_bucket_that_nobody_wrote_to_is_empty(store: S3Store) -> None:
    assert list(store.list()) == []
    assert not store.exists("a")
    store.delete("a")


def test_no_object_of_s3_is_a_local_file(store: S3Store) -> None:
    store.put("a", b"1")
    assert store.local_path("a") is None
