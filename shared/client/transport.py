"""How the client reaches the gateway: retries, time-outs, errors that become exceptions again."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, SecretStr, TypeAdapter

from shared.errors import (
    AppError,
    BackendUnavailable,
    BadRequest,
    NotFound,
    UpstreamFailed,
    error_classes,
)

ModelT = TypeVar("ModelT", bound=BaseModel)

IDEMPOTENT_TRIES = 4


class Transport:
    """Requests to the gateway; what they ask for is in the classes that inherit this."""

    def __init__(self, base_url: str, key: SecretStr | str, timeout_s: float = 60.0) -> None:
        """Talk to the gateway at `base_url` with an API key or the service key.

        Raises:
            BadRequest: either of them can never be one.
        """
        secret = key.get_secret_value() if isinstance(key, SecretStr) else key
        self.base_url = base_url.rstrip("/")
        try:
            self._http = httpx2.Client(
                base_url=self.base_url,
                headers={"Authorization": f"Bearer {secret}"},
                timeout=httpx2.Timeout(timeout_s, connect=5.0),
                limits=httpx2.Limits(max_connections=32),
            )
        except httpx2.InvalidURL as exc:
            msg = f"no address of a gateway (FOVEA_GATEWAY_URL): {base_url!r}: {exc}"
            raise BadRequest(msg) from exc
        except UnicodeError as exc:
            msg = "no key (FOVEA_API_KEY): a character of it is not ASCII"
            raise BadRequest(msg) from exc

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _get(
        self, path: str, model: type[ModelT], query: Mapping[str, Any] | None = None
    ) -> ModelT:
        return model.model_validate_json(self._send("GET", path, query=query).content)

    def _get_list(
        self, path: str, model: type[ModelT], query: Mapping[str, Any] | None = None
    ) -> list[ModelT]:
        content = self._send("GET", path, query=query).content
        return TypeAdapter(list[model]).validate_json(content)  # type: ignore[valid-type]

    def _post(
        self, path: str, body: BaseModel | None, model: type[ModelT], *, idempotent: bool = False
    ) -> ModelT:
        response = self._send("POST", path, json=body, idempotent=idempotent)
        return model.model_validate_json(response.content)

    def _download(self, path: str, query: Mapping[str, Any], target: Path) -> None:
        partial = target.with_name(target.name + ".part")
        try:
            with self._http.stream("GET", path, params=_given(query), timeout=600.0) as response:
                if response.is_error:
                    response.read()
                    raise error_from(response)
                with partial.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
        except httpx2.TransportError as exc:
            msg = f"gateway ({self.base_url}): {type(exc).__name__}: {exc}"
            raise BackendUnavailable(msg) from exc
        partial.replace(target)

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        json: BaseModel | None = None,
        idempotent: bool = False,
        **kwargs: Any,
    ) -> httpx2.Response:
        if json is not None:
            kwargs["content"] = json.model_dump_json()
            kwargs["headers"] = {"Content-Type": "application/json"}
        tries = IDEMPOTENT_TRIES if method == "GET" or idempotent else 1
        for attempt in range(1, tries + 1):
            try:
                response = self._http.request(method, path, params=_given(query), **kwargs)
            except httpx2.TransportError as exc:
                if attempt == tries:
                    msg = f"gateway ({self.base_url}): {type(exc).__name__}: {exc}"
                    raise BackendUnavailable(msg) from exc
            else:
                if not response.is_error:
                    return response
                if response.status_code != 503 or attempt == tries:
                    raise error_from(response)
            time.sleep(0.25 * 2**attempt)
        raise AssertionError  # the loop returns or raises


def at(*parts: str | int) -> str:
    """Return the path of these parts; each stays one part, whatever it holds.

    Raises:
        NotFound: nothing has such a name: empty, `.`, `..`, or with a slash, which even escaped
            would be read as another path.
    """
    names = [str(part) for part in parts]
    for name in names:
        if name in {"", ".", ".."} or "/" in name:
            msg = f"unknown name: {name!r}"
            raise NotFound(msg)
    return "/v1/" + "/".join(quote(name, safe="", errors="replace") for name in names)


def error_from(response: httpx2.Response) -> AppError:
    """Return the exception that an error answer stands for."""
    try:
        body = response.json()
        name, detail = str(body["error"]), str(body["detail"])
    except (ValueError, KeyError, TypeError):
        return UpstreamFailed(f"{response.status_code} from {response.url}: {response.text[:200]}")
    known = error_classes().get(name)
    if known is not None:
        return known(detail)
    by_status = {
        c.status: c for c in error_classes().values() if c.__module__ == AppError.__module__
    }
    return by_status.get(response.status_code, UpstreamFailed)(detail)


def _given(query: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (query or {}).items() if value is not None}
