import io
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from shared.errors import BackendUnavailable, Forbidden, Gone
from shared.objects.contract import ObjectStoreContract
from shared.objects.directory import DirectoryStore, SignedAddresses
from shared.objects.port import BadKey, ObjectStore
from shared.objects.signing import verify_signature

KEY = SecretStr("k" * 32)
ADDRESSES = SignedAddresses("https://fovea.example/", "http://127.0.0.1:8000", KEY)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "objects", ADDRESSES)


class TestDirectoryStore(ObjectStoreContract):
    pass


def _signed(store: ObjectStore, key: str, expires_s: int) -> tuple[str, int, str]:
    parts = urlsplit(store.signed_url(key, expires_s))
    query = parse_qs(parts.query)
    path = parts.path.removeprefix("/v1/files/")
    return path, int(query["expires"][0]), query["signature"][0]


def test_a_signed_url_has_a_public_and_an_internal_base(store: DirectoryStore) -> None:
    public = store.signed_url("a/b.jpg", 60)
    internal = store.signed_url("a/b.jpg", 60, public=False)
    assert public.startswith("https://fovea.example/v1/files/a/b.jpg?expires=")
    assert internal.startswith("http://127.0.0.1:8000/v1/files/a/b.jpg?expires=")


def test_a_signed_url_passes_as_it_was_signed(store: DirectoryStore) -> None:
    key, expires, signature = _signed(store, "a/b.jpg", 60)
    assert key == "a/b.jpg"
    verify_signature(key, expires, signature, KEY)


def test_a_changed_key_time_signature_or_secret_is_forbidden(store: DirectoryStore) -> None:
    key, expires, signature = _signed(store, "a/b.jpg", 60)
    changed = [
        ("a/c.jpg", expires, signature, KEY),
        (key, expires + 1, signature, KEY),
        (key, expires, "0" * 64, KEY),
        (key, expires, "é", KEY),
        (key, expires, signature, SecretStr("x" * 32)),
    ]
    for arguments in changed:
        with pytest.raises(Forbidden, match="bad signature for file"):
            verify_signature(*arguments)


def test_a_signed_url_past_its_time_is_gone(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, expires, signature = _signed(store, "a/b.jpg", 60)
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(Gone, match=r"address has expired for file: 'a/b.jpg'"):
        verify_signature(key, expires, signature, KEY)


def test_local_path_is_the_file(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("a/b.jpg", b"1")
    assert store.local_path("a/b.jpg") == tmp_path / "objects" / "a" / "b.jpg"


def test_a_link_that_leaves_the_store_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("a/b", b"1")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "objects" / "file").symlink_to(tmp_path / "secret")
    (tmp_path / "objects" / "folder").symlink_to(tmp_path)
    for key in ("file", "folder/secret"):
        with pytest.raises(BadKey, match="leaves the store by a link"):
            store.get(key)
        with pytest.raises(BadKey, match="leaves the store by a link"):
            store.put(key, b"changed")
    assert list(store.list()) == ["a/b"]
    assert (tmp_path / "secret").read_bytes() == b"secret"


class Broken(io.BytesIO):
    """An upload whose sender goes away after the first piece."""

    def read(self, size: int | None = -1) -> bytes:
        piece = super().read(size)
        if not piece:
            raise ConnectionResetError
        return piece


def test_a_put_that_fails_leaves_the_old_object_and_no_rest(
    store: DirectoryStore, tmp_path: Path
) -> None:
    store.put("a/b", b"old")
    with pytest.raises(ConnectionResetError):
        store.put("a/b", Broken(b"half of the new value"))
    assert store.get("a/b") == b"old"
    assert [path.name for path in (tmp_path / "objects" / "a").iterdir()] == ["b"]


def test_a_key_inside_an_object_is_refused(store: DirectoryStore) -> None:
    store.put("a", b"1")
    with pytest.raises(BadKey, match=r"lies inside an object: 'a/b'"):
        store.put("a/b", b"2")
    assert not store.exists("a/b")


def test_a_key_that_is_a_folder_is_refused(store: DirectoryStore) -> None:
    store.put("a/b", b"1")
    with pytest.raises(BadKey, match="is a folder of other keys"):
        store.put("a", b"2")


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = DirectoryStore(tmp_path / "file", ADDRESSES)
    with pytest.raises(BackendUnavailable, match=r"object store \(file:.*/file\)"):
        store.check()
