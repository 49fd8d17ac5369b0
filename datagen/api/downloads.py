"""An archive as an answer: streamed from the store, whole or the stretch that was asked for."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import BinaryIO

import anyio
from anyio.to_thread import run_sync
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from datagen.api.errors import ProblemResponse
from datagen.errors import PROBLEM_PREFIX
from datagen.schemas import Problem

CHUNK_BYTES = 1 << 20
_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*")


def wanted_stretch(headers: Headers, size: int, etag: str) -> tuple[int, int] | None:
    """The bytes `start` to `stop` - 1 that a request asks for; None means the whole.

    A range that is malformed, has several parts or no longer fits (`If-Range`) counts as none, as
    RFC 9110 allows. A range that lies beyond the end comes back empty.
    """
    found = _RANGE.fullmatch(headers.get("range", ""))
    if found is None or headers.get("if-range", etag) != etag:
        return None
    first, last = found.groups()
    if first:
        stop = min(int(last) + 1, size) if last else size
        return (int(first), stop) if int(first) < stop else _empty_or_none(first, last)
    if not last:
        return None
    return (max(0, size - int(last)), size) if int(last) else (0, 0)


def _empty_or_none(first: str, last: str) -> tuple[int, int] | None:
    malformed = bool(last) and int(last) < int(first)
    return None if malformed else (0, 0)


def archive_response(
    reader: BinaryIO, headers: Headers, *, size: int, digest: str, filename: str
) -> Response:
    """Answer with a stored archive: 200, 206 for a range, 304, or 416.

    Args:
        reader: seekable; closed when all is sent or the client has gone.
        headers: the request's.
        size: bytes of the archive.
        digest: its SHA-256, the strong entity tag.
        filename: what the browser saves it as.
    """
    etag = f'"{digest}"'
    shared = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'attachment; filename="{filename}"',
        "X-Content-Type-Options": "nosniff",
    }
    if etag in [tag.strip() for tag in headers.get("if-none-match", "").split(",")]:
        reader.close()
        return Response(status_code=304, headers=shared)
    stretch = wanted_stretch(headers, size, etag)
    if stretch == (0, 0):
        reader.close()
        return _unsatisfiable(size)
    start, stop = stretch or (0, size)
    shared["Content-Length"] = str(stop - start)
    if stretch is not None:
        shared["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return StreamingResponse(
        _chunks(reader, start, stop),
        status_code=200 if stretch is None else 206,
        headers=shared,
        media_type="application/zip",
    )


def _unsatisfiable(size: int) -> Response:
    problem = Problem(
        type=PROBLEM_PREFIX + "range-not-satisfiable",
        title="The range lies outside the file",
        status=416,
        detail=f"The archive has {size} bytes; ask for a range within it.",
    )
    return ProblemResponse(problem, {"Content-Range": f"bytes */{size}"})


async def _chunks(reader: BinaryIO, start: int, stop: int) -> AsyncIterator[bytes]:
    try:
        await run_sync(reader.seek, start)
        left = stop - start
        while left:
            chunk = await run_sync(reader.read, min(CHUNK_BYTES, left))
            if not chunk:
                raise OSError(f"The stored archive ends {left} bytes early.")
            left -= len(chunk)
            yield chunk
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(reader.close)
