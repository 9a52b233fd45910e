"""A real SeaweedFS from its wheel, for tests."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.errors import BackendUnavailable
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
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
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
            _wait(S3Store(s3_location(url, "ready")), process, folder / "log.txt")
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


def s3_location(url: str, bucket: str, secret: str = SECRET) -> S3Location:
    return S3Location(
        bucket, endpoint_url=url, access_key=SecretStr(ACCESS), secret_key=SecretStr(secret)
    )
