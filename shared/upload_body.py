"""Receives an upload without holding it in memory: a raw body, or one file of a form."""

import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from shared.errors import BadRequest, TooLarge

_IN_MEMORY = 1 << 20
_MIB = 1024 * 1024


@dataclass(frozen=True)
class ReceivedFile:
    """An upload on this machine, until the request ends."""

    file: BinaryIO
    name: str


@asynccontextmanager
async def receive(request: Request, max_mb: int) -> AsyncIterator[ReceivedFile]:
    """Yield the uploaded file.

    Raises:
        TooLarge: more than `max_mb` MiB.
        BadRequest: a form without exactly one file.
    """
    stream = _limited(request, max_mb)
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        upload = await _form_file(request, stream)
        try:
            yield ReceivedFile(upload.file, upload.filename or "")
        finally:
            await upload.close()
        return
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        async for chunk in stream:
            await run_in_threadpool(file.write, chunk)
        yield ReceivedFile(cast(BinaryIO, file), "")


async def form_of(request: Request, stream: AsyncGenerator[bytes, None]) -> FormData:
    """Return the form that comes with a request, read from a stream that bounds it.

    Raises:
        BadRequest: it is not well-formed, or has more than one file.
    """
    try:
        return await MultiPartParser(request.headers, stream, max_files=1, max_fields=10).parse()
    except MultiPartException as exc:
        raise BadRequest(exc.message) from exc


async def _form_file(request: Request, stream: AsyncGenerator[bytes, None]) -> UploadFile:
    form = await form_of(request, stream)
    files = [value for value in form.values() if isinstance(value, UploadFile)]
    if len(files) != 1:
        msg = f"a form with {len(files)} files, one is needed"
        raise BadRequest(msg)
    return files[0]


async def _limited(request: Request, max_mb: int) -> AsyncGenerator[bytes, None]:
    received = 0
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_mb * _MIB + _IN_MEMORY:
        raise _too_large(max_mb)
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_mb * _MIB:
            raise _too_large(max_mb)
        yield chunk


def _too_large(max_mb: int) -> TooLarge:
    return TooLarge(f"the upload is larger than {max_mb} MiB (FOVEA_MAX_UPLOAD_MB)")
