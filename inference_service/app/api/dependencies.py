"""What routes are given."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from inference_service.app.models.schemas import StoredImageRef
from inference_service.app.wiring import Dependencies
from shared.errors import TooLarge, UnsupportedMedia, ValidationFailed


@dataclass(frozen=True)
class SentImage:
    """What a prediction request holds: the bytes of a file, or the id of a stored image."""

    data: bytes
    name: str
    image_id: str | None = None


def dependencies(request: Request) -> Dependencies:
    deps: Dependencies = request.state.deps
    return deps


Deps = Annotated[Dependencies, Depends(dependencies)]


async def sent_image(request: Request, deps: Deps) -> SentImage:
    _refuse_large(int(request.headers.get("content-length") or 0), deps)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        return SentImage(b"", "", _parse_ref(await request.body()).image_id)
    if kind != "multipart/form-data":
        msg = f"expected multipart/form-data or application/json: {kind!r}"
        raise UnsupportedMedia(msg)
    async with request.form(max_files=1, max_fields=10) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            msg = "file: the form needs an image in the field `file`"
            raise ValidationFailed(msg)
        _refuse_large(file.size or 0, deps)
        return SentImage(await file.read(), file.filename or "file")


Sent = Annotated[SentImage, Depends(sent_image)]


def _refuse_large(n_bytes: int, deps: Dependencies) -> None:
    limit = deps.settings.max_upload_mb * 2**20
    if n_bytes > limit:
        msg = f"request of {n_bytes} bytes, limit {limit}"
        raise TooLarge(msg)


def _parse_ref(body: bytes) -> StoredImageRef:
    try:
        return StoredImageRef.model_validate_json(body)
    except ValidationError as exc:
        first = exc.errors()[0]
        msg = f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"
        raise ValidationFailed(msg) from exc
