"""One OpenAPI document, merged from the services' own."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.app.core.routes import SERVICES, Service, service_of
from gateway.app.services.proxy import Proxy
from shared.errors import NotFound

Document = dict[str, Any]

CACHE_S = 10.0
REFERENCE = "#/components/schemas/"
SECURITY = {"key": {"type": "http", "scheme": "bearer", "description": "An API key, `fov_…`."}}


class OpenApi:
    """The whole API as one document, made anew when it is older than `CACHE_S`."""

    def __init__(self, proxy: Proxy) -> None:
        """Ask the services through `proxy`."""
        self._proxy = proxy
        self._merged: Document = {}
        self._until = 0.0

    async def document(self, own: Callable[[], Document]) -> Document:
        """Return the merged document; `own` makes the gateway's.

        Raises:
            BackendUnavailable: a service does not answer; the message names it.
        """
        if time.monotonic() >= self._until:
            bodies = await asyncio.gather(
                *(self._proxy.get_json(service, "/openapi.json") for service in SERVICES)
            )
            theirs = {s: json.loads(body) for s, body in zip(SERVICES, bodies, strict=True)}
            self._merged = merge(own(), theirs)
            self._until = time.monotonic() + CACHE_S
        return self._merged


def merge(own: Document, theirs: Mapping[Service, Document]) -> Document:
    """Return one document with the paths that the route table gives to each service.

    Schemas of one name and content become one; one whose name is taken by another content gets the
    service's name as a prefix.

    Args:
        own: the gateway's document, which lends its head.
        theirs: the services' documents.
    """
    paths: Document = dict(own.get("paths", {}))
    schemas: Document = dict(_schemas(own))
    for service, document in theirs.items():
        renamed = _rename(document, service, schemas)
        schemas |= _schemas(renamed)
        found = renamed.get("paths", {})
        paths |= {path: item for path, item in found.items() if _belongs(path, service)}
    return {
        **own,
        "info": {**own["info"], "title": "Fovea"},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": dict(sorted(schemas.items())), "securitySchemes": SECURITY},
        "security": [{"key": []}],
    }


def _belongs(path: str, service: Service) -> bool:
    try:
        return service_of(path) == service
    except NotFound:
        return False


def _rename(document: Document, service: str, taken: Document) -> Document:
    """Return the document with new names for the schemas that differ from taken ones.

    A schema that refers to a renamed one differs by that, so this goes on until nothing changes.
    """
    names: dict[str, str] = {}
    while True:
        renamed: Document = _with_names(document, names)
        clashes = {
            name
            for name, schema in _schemas(renamed).items()
            if name in taken and taken[name] != schema
        }
        if not clashes:
            return renamed
        names |= {name: f"{service}_{name}" for name in clashes}


def _with_names(document: Document, names: Mapping[str, str]) -> Document:
    renamed: Document = _refer(document, names)
    schemas = {names.get(name, name): schema for name, schema in _schemas(renamed).items()}
    return {**renamed, "components": {**renamed.get("components", {}), "schemas": schemas}}


def _refer(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_refer(item, names) for item in node]
    if isinstance(node, dict):
        return {key: _refer(value, names) for key, value in node.items()}
    if isinstance(node, str) and node.startswith(REFERENCE):
        name = node.removeprefix(REFERENCE)
        return REFERENCE + names.get(name, name)
    return node


def _schemas(document: Document) -> Document:
    schemas: Document = document.get("components", {}).get("schemas", {})
    return schemas
