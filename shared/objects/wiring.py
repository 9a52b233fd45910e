"""Which object store an installation uses: the URL's scheme says it."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.objects.port import ObjectStore
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.objects.s3 import S3Bucket, S3Location


def object_store(settings: Settings) -> ObjectStore:
    """Return the store of `settings.object_store_url`; nothing is asked of it yet.

    Raises:
        ValueError: no adapter has this scheme.
    """
    url = settings.object_store_url
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return _directory(settings)
    if scheme == "s3":
        return _s3(settings)
    msg = f"unknown scheme of object_store_url: {scheme!r} in {url!r} (known: file, s3)"
    raise ValueError(msg)


def _directory(settings: Settings) -> ObjectStore:
    from shared.objects.directory import DirectoryStore, SignedAddresses

    addresses = SignedAddresses(
        public_url=settings.public_url or settings.gateway_url,
        internal_url=settings.gateway_url,
        signing_key=settings.signing_key,
    )
    folder = settings.object_store_url.removeprefix("file:").removeprefix("//")
    return DirectoryStore(Path(folder), addresses)


def _s3(settings: Settings) -> ObjectStore:
    from shared.objects.s3 import S3Store

    return S3Store(_location(settings, urlsplit(settings.object_store_url).netloc))


def s3_bucket(settings: Settings, bucket: str) -> "S3Bucket":
    """Return a bucket to read from, at the endpoint and with the keys of the settings."""
    from shared.objects.s3 import S3Bucket

    return S3Bucket(_location(settings, bucket))


def _location(settings: Settings, bucket: str) -> "S3Location":
    from shared.objects.s3 import S3Location

    return S3Location(
        bucket=bucket,
        endpoint_url=settings.s3_endpoint_url,
        public_url=settings.s3_public_url,
        region=settings.s3_region,
        access_key=settings.s3_access_key or None,
        secret_key=settings.s3_secret_key or None,
    )
