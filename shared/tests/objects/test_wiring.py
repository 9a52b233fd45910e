from pathlib import Path

import pytest

from shared.objects.directory import DirectoryStore
from shared.objects.s3 import S3Store
from shared.objects.wiring import object_store
from shared.settings import Settings


@pytest.mark.parametrize("slashes", ["", "//"])
def test_file_is_a_directory(tmp_path: Path, slashes: str) -> None:
    store = object_store(Settings(object_store_url=f"file:{slashes}{tmp_path}/objects"))
    assert isinstance(store, DirectoryStore)
    assert store.root == tmp_path / "objects"


def test_a_relative_folder_is_below_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = object_store(Settings(object_store_url="file:.fovea/objects"))
    assert isinstance(store, DirectoryStore)
    assert store.root == tmp_path / ".fovea" / "objects"


def test_s3_is_a_bucket() -> None:
    settings = Settings.model_validate(
        {
            "object_store_url": "s3://fovea",
            "service_key": "s" * 32,
            "signing_key": "s" * 32,
            "s3_endpoint_url": "http://127.0.0.1:9",
            "s3_public_url": "https://files.example",
            "s3_access_key": "a",
            "s3_secret_key": "b",
        }
    )
    store = object_store(settings)
    assert isinstance(store, S3Store)
    assert store.signed_url("a/b", 60).startswith("https://files.example/fovea/a/b?")
    internal = store.signed_url("a/b", 60, public=False)
    assert internal.startswith("http://127.0.0.1:9/fovea/a/b?")


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(ValueError, match="unknown scheme of object_store_url: 'ftp'"):
        object_store(
            Settings.model_validate(
                {
                    "object_store_url": "ftp://somewhere",
                    "service_key": "s" * 32,
                    "signing_key": "s" * 32,
                }
            )
        )
