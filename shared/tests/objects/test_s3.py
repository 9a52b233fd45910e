"""Against a real SeaweedFS from its wheel."""

import time
import uuid
from pathlib import Path

import httpx2
import pytest

from shared.errors import BackendUnavailable, Forbidden
from shared.objects.contract import ObjectStoreContract
from shared.objects.port import ObjectNotFound
from shared.objects.s3 import BucketNotFound, S3Bucket, S3Store
from shared.tests.ports import free_ports
from shared.tests.seaweedfs import s3_endpoint, s3_location

__all__ = ["s3_endpoint"]


@pytest.fixture
def store(s3_endpoint: str) -> S3Store:
    return S3Store(s3_location(s3_endpoint, f"fovea-{uuid.uuid4().hex}"))


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


def test_a_wrong_secret_is_unavailable_by_name(s3_endpoint: str) -> None:
    store = S3Store(s3_location(s3_endpoint, "fovea", secret="wrong"))
    with pytest.raises(BackendUnavailable, match=r"object store \(s3://fovea at http://127"):
        store.check()


def test_a_store_that_is_down_is_unavailable_by_name() -> None:
    (port,) = free_ports(1)
    store = S3Store(s3_location(f"http://127.0.0.1:{port}", "fovea"))
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


def test_somebodys_bucket_is_read_as_it_is(s3_endpoint: str, tmp_path: Path) -> None:
    name = f"theirs-{uuid.uuid4().hex}"
    store = S3Store(s3_location(s3_endpoint, name))
    store.ensure_bucket()
    keys = {"in/a b (1).jpg": b"one", "in/deep/kühe.png": b"three", "out/c.png": b""}
    for key, data in keys.items():
        store._client.put_object(Bucket=name, Key=key, Body=data)
    bucket = S3Bucket(s3_location(s3_endpoint, name))
    assert dict(bucket.objects("in/")) == {"in/a b (1).jpg": 3, "in/deep/kühe.png": 5}
    bucket.download("in/a b (1).jpg", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"one"
    with pytest.raises(ObjectNotFound, match="'in/none'"):
        bucket.download("in/none", tmp_path / "b")
    with pytest.raises(BucketNotFound, match=r"^no such bucket: 's3://nobodys-bucket'$"):
        list(S3Bucket(s3_location(s3_endpoint, "nobodys-bucket")).objects("in/"))
    stranger = S3Bucket(s3_location(s3_endpoint, name, secret="wrong"))
    with pytest.raises(Forbidden, match=f"s3://{name}/in/"):
        list(stranger.objects("in/"))
    with pytest.raises(Forbidden):
        stranger.download("in/a b (1).jpg", tmp_path / "c")
