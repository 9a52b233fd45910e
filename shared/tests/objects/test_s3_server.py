"""Against the S3 server that FOVEA_TEST_S3_URL names (`http://ACCESS_KEY:SECRET_KEY@HOST:PORT`)."""

import os
import uuid
from urllib.parse import urlsplit

import httpx2
import pytest
from pydantic import SecretStr

from shared.objects.contract import ObjectStoreContract
from shared.objects.s3 import S3Location, S3Store

URL = os.environ.get("FOVEA_TEST_S3_URL", "")

pytestmark = pytest.mark.skipif(not URL, reason="FOVEA_TEST_S3_URL is not set: no S3 server")


@pytest.fixture
def store() -> S3Store:
    parts = urlsplit(URL)
    location = S3Location(
        f"fovea-{uuid.uuid4().hex}",
        endpoint_url=f"{parts.scheme}://{parts.hostname}:{parts.port}",
        access_key=SecretStr(parts.username or ""),
        secret_key=SecretStr(parts.password or ""),
    )
    return S3Store(location)


class TestS3Server(ObjectStoreContract):
    pass


def test_a_signed_url_that_was_changed_is_refused(store: S3Store) -> None:
    store.put("a/b.jpg", b"jpeg")
    store.put("a/c.jpg", b"other")
    url = store.signed_url("a/b.jpg", 60)
    assert httpx2.get(url).content == b"jpeg"
    assert httpx2.get(url.replace("b.jpg", "c.jpg")).status_code == 403
