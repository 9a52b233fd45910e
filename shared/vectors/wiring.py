"""Which vector store an installation uses: the URL's scheme says it."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from shared.settings import Settings
from shared.vectors.port import VectorStore


def vector_store(settings: Settings) -> VectorStore:
    """Return the store of `settings.vector_store_url`; nothing is asked of it yet.

    Raises:
        ValueError: no adapter has this scheme, or the URL lacks a part.
    """
    url = settings.vector_store_url
    scheme = urlsplit(url).scheme
    if scheme == "lancedb":
        from shared.vectors.lancedb_store import LanceDBStore

        return LanceDBStore(Path(url.removeprefix("lancedb:").removeprefix("//")))
    if scheme == "weaviate":
        return _weaviate(url)
    msg = f"unknown scheme of vector_store_url: {scheme!r} in {url!r} (known: lancedb, weaviate)"
    raise ValueError(msg)


def _weaviate(url: str) -> VectorStore:
    from shared.vectors.weaviate_store import WeaviateAddress, WeaviateStore

    parts = urlsplit(url)
    grpc = parse_qs(parts.query).get("grpc", ["50051"])[0]
    if not parts.hostname or not grpc.isdigit():
        msg = f"vector_store_url has to be weaviate://HOST:HTTP_PORT?grpc=PORT: {url!r}"
        raise ValueError(msg)
    return WeaviateStore(WeaviateAddress(parts.hostname, parts.port or 8080, int(grpc)))
