"""Taking a body in as a file, chunk by chunk."""

from __future__ import annotations

from pathlib import Path

from anyio import open_file
from fastapi import Request
from starlette.datastructures import Headers

from datagen.errors import MalformedRequest, StorageFailure, TooLarge
from datagen.scratch import NO_MORE_ROOM

BUFFER_BYTES = 1 << 20


def is_json(headers: Headers) -> bool:
    """Whether a body says that it is JSON, in whatever letters and with whatever parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


async def receive_file(request: Request, target: Path) -> None:
    """Write the body to a file; memory does not grow with its size.

    Raises:
        MalformedRequest: there is no body.
        StorageFailure: the disk for temporary files has no more room.
    """
    buffer = bytearray()
    size = 0
    try:
        async with await open_file(target, "wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                buffer += chunk
                if len(buffer) >= BUFFER_BYTES:
                    await file.write(bytes(buffer))
                    buffer.clear()
            await file.write(bytes(buffer))
    except OSError as error:
        if error.errno not in NO_MORE_ROOM:
            raise
        raise StorageFailure(
            f"The server's disk for temporary files had no more room after {size:,} bytes of the "
            f"upload ({error.strerror}); free space or a higher limit is needed there."
        ) from error
    if size == 0:
        raise MalformedRequest("The body is empty; send an archive or a file.")


async def receive_json(request: Request, most: int) -> bytes:
    """A body that is read whole because it is small.

    Raises:
        TooLarge: more bytes than that.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise TooLarge(f"The JSON has more than {most:,} bytes; send less.")
    return bytes(body)
