"""Files as answers: streamed from the store, whole or the stretch that was asked for."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote

import anyio
from anyio.to_thread import run_sync
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from datagen.api.errors import ProblemResponse
from datagen.errors import PROBLEM_PREFIX
from datagen.schemas import Problem

CHUNK_BYTES = 1 << 20
ZIP = "application/zip"
_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*")


@dataclass(frozen=True)
class Content:
    """Something of a known length that can be sent, whole or a stretch of it.

    Attributes:
        size: in bytes.
        tag: the strong entity tag, without its quotes: other bytes have another one.
        filename: what a browser saves it as.
        media_type: of its bytes.
        read: the bytes from the first place to before the second, in pieces.
        close: called when all is sent, or the client has gone.
    """

    size: int
    tag: str
    filename: str
    media_type: str
    read: Callable[[int, int], Iterator[bytes]]
    close: Callable[[], None]


def stored(
    reader: BinaryIO, *, size: int, digest: str, filename: str, media_type: str = ZIP
) -> Content:
    """A file in the store.

    Args:
        reader: seekable.
        size: its bytes.
        digest: its SHA-256, the entity tag.
        filename: what a browser saves it as.
        media_type: of its bytes.
    """

    def read(start: int, stop: int) -> Iterator[bytes]:
        reader.seek(start)
        left = stop - start
        while left:
            chunk = reader.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise OSError(f"The stored file ends {left} bytes early.")
            left -= len(chunk)
            yield chunk

    return Content(size, digest, filename, media_type, read, reader.close)


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


def answered(content: Content, headers: Headers) -> Response:
    """Answer with a file: 200, 206 for a range, 304, or 416.

    Args:
        content: closed when all is sent or the client has gone.
        headers: the request's.
    """
    etag = f'"{content.tag}"'
    shared = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Content-Disposition": _attachment(content.filename),
        "X-Content-Type-Options": "nosniff",
    }
    if etag in [tag.strip() for tag in headers.get("if-none-match", "").split(",")]:
        content.close()
        return Response(status_code=304, headers=shared)
    stretch = wanted_stretch(headers, content.size, etag)
    if stretch == (0, 0):
        content.close()
        return _unsatisfiable(content.size)
    start, stop = stretch or (0, content.size)
    shared["Content-Length"] = str(stop - start)
    if stretch is not None:
        shared["Content-Range"] = f"bytes {start}-{stop - 1}/{content.size}"
    return StreamingResponse(
        _chunks(content, start, stop),
        status_code=200 if stretch is None else 206,
        headers=shared,
        media_type=content.media_type,
    )


def _attachment(filename: str) -> str:
    plain = "".join(char if char.isascii() and char.isprintable() else "_" for char in filename)
    plain = plain.replace("\\", "_").replace('"', "_")
    told = f'attachment; filename="{plain}"'
    # RFC 6266: the name as it is, for whoever can read it.
    return told if plain == filename else f"{told}; filename*=UTF-8''{quote(filename, safe='')}"


def _unsatisfiable(size: int) -> Response:
    problem = Problem(
        type=PROBLEM_PREFIX + "range-not-satisfiable",
        title="The range lies outside the file",
        status=416,
        detail=f"The file has {size} bytes; ask for a range within it.",
    )
    return ProblemResponse(problem, {"Content-Range": f"bytes */{size}"})


async def _chunks(content: Content, start: int, stop: int) -> AsyncIterator[bytes]:
    pieces = content.read(start, stop)
    try:
        while (piece := await run_sync(next, pieces, None)) is not None:
            yield piece
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(content.close)
