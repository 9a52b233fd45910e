"""What routes are given."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from inference_service.app.core.body_budget import Take
from inference_service.app.core.images import MAX_IMAGE_BYTES
from inference_service.app.models.schemas import ImageSource
from inference_service.app.services.prediction import ImageBytes
from inference_service.app.wiring import Dependencies
from shared.errors import TooLarge, UnsupportedMedia, ValidationFailed
from shared.upload_body import form_of

# Base64 and its decoded bytes are both in memory for a moment.
MAX_JSON_BYTES = 32 << 20
FORM = "multipart/form-data"
# Of a form, beside its file.
MAX_FORM_BYTES = 1 << 20


def _nothing(_n_bytes: int) -> None:
    """Take nothing: what is read was taken before."""


@dataclass(frozen=True)
class SentImage:
    """What a prediction request holds: the bytes of a file, or where to find them.

    `take` takes what is fetched for it out of the bytes that requests may hold.
    """

    data: bytes = b""
    name: str = "image"
    image_id: str | None = None
    url: str | None = None
    take: Take = _nothing


# `async`: a plain function would have a thread of the pool look it up.
async def dependencies(request: Request) -> Dependencies:
    deps: Dependencies = request.state.deps
    return deps


Deps = Annotated[Dependencies, Depends(dependencies)]


async def sent_image(request: Request, deps: Deps) -> AsyncIterator[SentImage]:
    length = request.headers.get("content-length", "")
    announced = int(length) if length.isdecimal() else 0
    # A form's own lines come on top of the file.
    _refuse_large(announced, _limit(deps) + (MAX_FORM_BYTES if _kind(request) == FORM else 0))
    # Before the body is read: what does not get in takes no memory.
    with deps.in_flight.enter(), deps.bodies.share() as take:
        take(announced)
        sent = await _read(request, deps, _nothing if announced else take)
        yield replace(sent, take=take)


async def _read(request: Request, deps: Dependencies, take: Take) -> SentImage:
    kind = _kind(request)
    if kind == "application/json":
        source = _parse(await _body(request, MAX_JSON_BYTES, take))
        return SentImage(source.image or b"", "image", source.image_id, source.url)
    if kind.startswith("image/"):
        return SentImage(await _body(request, _limit(deps), take))
    if kind != FORM:
        msg = f"expected {FORM}, application/json or image/*: {kind!r}"
        raise UnsupportedMedia(msg)
    form = await form_of(request, _pieces(request, _limit(deps) + MAX_FORM_BYTES, take))
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            msg = "file: the form needs an image in the field `file`, and has none that is whole"
            raise ValidationFailed(msg)
        _refuse_large(file.size or 0, _limit(deps))
        return SentImage(await file.read(), file.filename or "file")
    finally:
        await form.close()


Sent = Annotated[SentImage, Depends(sent_image)]


def image_of(
    project: str, sent: SentImage, deps: Dependencies, batch: str | None = None
) -> ImageBytes:
    """Return the image that was sent, or named.

    Raises:
        NotFound: the project has no such image.
        UrlRefused, UrlFailed, TooLarge: about its address, or what is there.
        ServingBusy: other requests hold too many bytes.
    """
    if sent.image_id is not None:
        return deps.predictor.stored(project, sent.image_id, batch, sent.take)
    if sent.url is not None:
        return deps.predictor.fetched(sent.url, batch, sent.take)
    return deps.predictor.uploaded(sent.data, sent.name, batch)


async def _body(request: Request, limit: int, take: Take) -> bytes:
    # One block, which goes back whole; pieces would leave the heap in pieces.
    body = bytearray()
    async for part in _pieces(request, limit, take):
        body += part
    return bytes(body)


async def _pieces(request: Request, limit: int, take: Take) -> AsyncGenerator[bytes, None]:
    n_bytes = 0
    async for part in request.stream():
        n_bytes += len(part)
        _refuse_large(n_bytes, limit)
        take(len(part))
        yield part


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def _limit(deps: Dependencies) -> int:
    return min(deps.settings.max_upload_mb << 20, MAX_IMAGE_BYTES)


def _refuse_large(n_bytes: int, limit: int) -> None:
    if n_bytes > limit:
        msg = f"request of {n_bytes} bytes, limit {limit}"
        raise TooLarge(msg)


def _parse(body: bytes) -> ImageSource:
    try:
        return ImageSource.model_validate_json(body)
    except ValidationError as exc:
        first = exc.errors()[0]
        msg = f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"
        raise ValidationFailed(msg) from exc
