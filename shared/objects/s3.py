"""Object store on S3: AWS, MinIO, SeaweedFS."""

import io
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import SecretStr

from shared.errors import BackendUnavailable, Forbidden
from shared.objects.port import ObjectNotFound, checked_key, checked_prefix

_MIB = 1024 * 1024
_MISSING_KEY = frozenset({"NoSuchKey", "404", "NotFound"})
_MISSING_BUCKET = frozenset({"NoSuchBucket", "404", "NotFound"})
# What no waiting mends.
_FOR_GOOD = frozenset(
    {
        "403",
        "AccessDenied",
        "AllAccessDisabled",
        "InvalidAccessKeyId",
        "InvalidObjectState",
        "PermanentRedirect",
        "SignatureDoesNotMatch",
    }
)
_BUCKET_IS_THERE = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})


@dataclass(frozen=True)
class S3Location:
    """Where a bucket is and who asks.

    Attributes:
        bucket: its name.
        endpoint_url: as services reach it; None is AWS.
        public_url: as browsers reach it; None is the same.
        region: of the bucket; part of every signature.
        access_key: without one boto3 looks for credentials by itself.
        secret_key: goes with it.
    """

    bucket: str
    endpoint_url: str | None = None
    public_url: str | None = None
    region: str = "us-east-1"
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None


class BucketNotFound(ObjectNotFound):
    """No bucket has this name."""


class S3Store:
    """Objects in one bucket, which is made when it is missing."""

    def __init__(self, location: S3Location) -> None:
        """Prepare clients; nothing is asked of the store yet."""
        self._location = location
        self._client = _client(location, location.endpoint_url)
        self._public_client = _client(location, location.public_url or location.endpoint_url)
        self._transfer = TransferConfig(
            multipart_threshold=16 * _MIB, multipart_chunksize=16 * _MIB, max_concurrency=4
        )
        self._bucket_lock = threading.Lock()
        self._bucket_seen = False

    def put(
        self, key: str, data: bytes | BinaryIO, content_type: str = "application/octet-stream"
    ) -> None:
        """Store `data`; a stream goes up in parts and appears when the last one is there."""
        target = {"Bucket": self._location.bucket, "Key": checked_key(key)}
        if not self._bucket_seen:
            self.ensure_bucket()
        with self._errors(key):
            if isinstance(data, bytes):
                self._client.put_object(**target, Body=data, ContentType=content_type)
            else:
                self._client.upload_fileobj(
                    _Unclosed(data),
                    **target,
                    ExtraArgs={"ContentType": content_type},
                    Config=self._transfer,
                )

    def get(self, key: str) -> bytes:
        """Return the whole object."""
        with self.open(key) as stream:
            return stream.read()

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """Open the object for reading as a stream; it cannot seek."""
        with self._errors(key):
            answer = self._client.get_object(Bucket=self._location.bucket, Key=checked_key(key))
            with io.BufferedReader(answer["Body"], _MIB) as stream:
                yield stream

    def exists(self, key: str) -> bool:
        """Tell whether an object has this key."""
        try:
            self.size(key)
        except ObjectNotFound:
            return False
        return True

    def size(self, key: str) -> int:
        """Return the object's size in bytes."""
        with self._errors(key):
            head = self._client.head_object(Bucket=self._location.bucket, Key=checked_key(key))
        return int(head["ContentLength"])

    def list(self, prefix: str = "") -> Iterator[str]:
        """Return the keys that start with `prefix`, sorted."""
        # SeaweedFS orders by folder, AWS and MinIO by bytes.
        return iter(sorted(self._pages(checked_prefix(prefix))))

    def delete(self, key: str) -> None:
        """Remove the object; a key that is not there is fine."""
        checked_key(key)
        try:
            with self._errors(key):
                self._client.delete_object(Bucket=self._location.bucket, Key=key)
        except ObjectNotFound:
            return

    def signed_url(self, key: str, expires_s: int, *, public: bool = True) -> str:
        """Return a presigned GET; S3 itself refuses more than seven days."""
        client = self._public_client if public else self._client
        params = {"Bucket": self._location.bucket, "Key": checked_key(key)}
        return str(client.generate_presigned_url("get_object", Params=params, ExpiresIn=expires_s))

    def local_path(self, key: str) -> Path | None:
        """Return None: no object of S3 is a file here."""
        checked_key(key)
        return None

    def check(self) -> None:
        """Ask for the bucket, and make it when it is missing."""
        self.ensure_bucket()

    def ensure_bucket(self) -> None:
        """Make the bucket if it is missing; safe when several processes do it at once.

        Raises:
            BackendUnavailable: the store does not answer, or refuses.
        """
        with self._bucket_lock, self._errors(""):
            try:
                self._client.head_bucket(Bucket=self._location.bucket)
            except ClientError as exc:
                if _code(exc) not in _MISSING_BUCKET:
                    raise
                self._create_bucket()
            self._bucket_seen = True

    def _create_bucket(self) -> None:
        region = self._location.region
        # AWS refuses its own default region as a constraint.
        place = {} if region == "us-east-1" else {"LocationConstraint": region}
        extra = {"CreateBucketConfiguration": place} if place else {}
        try:
            self._client.create_bucket(Bucket=self._location.bucket, **extra)
        except ClientError as exc:
            if _code(exc) not in _BUCKET_IS_THERE:
                raise

    def _pages(self, prefix: str) -> Iterator[str]:
        paginator = self._client.get_paginator("list_objects_v2")
        try:
            with self._errors(prefix):
                for page in paginator.paginate(Bucket=self._location.bucket, Prefix=prefix):
                    for item in page.get("Contents", []):
                        yield str(item["Key"])
        except ObjectNotFound:
            return

    def _errors(self, key: str) -> AbstractContextManager[None]:
        return translated(self._location, key)


class S3Bucket:
    """Somebody's bucket, read as it is: any key, nothing written."""

    def __init__(self, location: S3Location) -> None:
        """Prepare a client; nothing is asked of the store yet."""
        self._location = location
        self._client = _client(location, location.endpoint_url)

    def objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield key and size of every object under a prefix.

        Raises:
            BucketNotFound: there is no such bucket.
            Forbidden: the keys may not list it.
            BackendUnavailable: the store does not answer.
        """
        paginator = self._client.get_paginator("list_objects_v2")
        with self._errors(prefix):
            for page in paginator.paginate(Bucket=self._location.bucket, Prefix=prefix):
                for item in page.get("Contents", []):
                    yield str(item["Key"]), int(item["Size"])

    def download(self, key: str, target: Path) -> None:
        """Write an object to a file.

        Raises:
            ObjectNotFound: it is not there any longer.
            Forbidden: the keys may not read it, or it lies in an archive.
            BackendUnavailable: the store does not answer.
        """
        with self._errors(key):
            self._client.download_file(self._location.bucket, key, str(target))

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        with translated(self._location, key):
            try:
                yield
            except ClientError as exc:
                if _code(exc) == "NoSuchBucket":
                    msg = f"no such bucket: 's3://{self._location.bucket}'"
                    raise BucketNotFound(msg) from exc
                if _code(exc) in _FOR_GOOD:
                    msg = f"s3://{self._location.bucket}/{key}: {exc}"
                    raise Forbidden(msg) from exc
                raise


@contextmanager
def translated(location: S3Location, key: str) -> Iterator[None]:
    """Turn what boto3 raises into our own errors.

    Raises:
        ObjectNotFound: neither the key nor, perhaps, the bucket is there.
        BackendUnavailable: anything else.
    """
    try:
        yield
    except ClientError as exc:
        # A bucket that nobody has written to yet holds nothing.
        if _code(exc) in _MISSING_KEY | _MISSING_BUCKET:
            msg = f"unknown object: {key!r}"
            raise ObjectNotFound(msg) from exc
        raise _unavailable(location, exc) from exc
    except (BotoCoreError, Boto3Error) as exc:
        raise _unavailable(location, exc) from exc


def _unavailable(location: S3Location, exc: Exception) -> BackendUnavailable:
    where = location.endpoint_url or "AWS"
    return BackendUnavailable(f"object store (s3://{location.bucket} at {where}): {exc}")


class _Unclosed(io.RawIOBase):
    """A caller's stream, which s3transfer would close at the end of the upload."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size)


def _client(location: S3Location, endpoint_url: str | None) -> Any:
    access, secret = location.access_key, location.secret_key
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=location.region,
        aws_access_key_id=access.get_secret_value() if access else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            signature_version="s3v4",
            connect_timeout=5,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 3},
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            # Stores other than AWS lag behind its newest checksum headers.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _code(exc: ClientError) -> str:
    return str(exc.response.get("Error", {}).get("Code", ""))
