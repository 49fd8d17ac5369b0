from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from datagen.client.download import download_archive
from datagen.client.transport import Transport
from datagen.errors import Conflict, InvalidFile, NotFound
from datagen.schemas import Export

CONTENT = bytes(range(256)) * 400
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ID = UUID(int=7)


def export(digest: str = DIGEST) -> Export:
    return Export.model_construct(id=ID, digest=digest, bytes=len(CONTENT), state="succeeded")


def sends(until: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    """Honours a range; promises all that is left, and breaks off after `until` bytes of it."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        handler.send_response(206 if wanted else 200)
        handler.send_header("Content-Length", str(len(CONTENT) - start))
        handler.end_headers()
        handler.wfile.write(CONTENT[start : None if until is None else start + until])

    return answer


def test_archive_arrives_whole_with_progress(
    server: Any, transport: Transport, tmp_path: Path
) -> None:
    server.script = [sends()]
    told: list[tuple[int, int]] = []
    part = download_archive(
        transport, export(), tmp_path / "deep" / "out", lambda *now: told.append(now)
    )
    assert part.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_broken_connection_is_continued_where_it_broke(
    server: Any, transport: Transport, tmp_path: Path
) -> None:
    server.script = [sends(until=40_000), sends(until=10_000), sends()]
    part = download_archive(transport, export(), tmp_path / "out")
    assert part.read_bytes() == CONTENT
    later = [request.headers for request in server.requests[1:]]
    assert [headers["Range"] for headers in later] == ["bytes=40000-", "bytes=50000-"]
    assert {headers["If-Range"] for headers in later} == {f'"{DIGEST}"'}


def test_part_of_an_earlier_call_is_continued(
    server: Any, transport: Transport, tmp_path: Path
) -> None:
    (tmp_path / f".out.{ID}.zip.part").write_bytes(CONTENT[:1000])
    server.script = [sends()]
    assert download_archive(transport, export(), tmp_path / "out").read_bytes() == CONTENT
    assert server.requests[0].headers["Range"] == "bytes=1000-"


def test_part_that_is_whole_already_is_not_fetched_again(
    server: Any, transport: Transport, tmp_path: Path
) -> None:
    (tmp_path / f".out.{ID}.zip.part").write_bytes(CONTENT)
    server.script = [sends()]
    download_archive(transport, export(), tmp_path / "out")
    assert server.requests == []


def test_damaged_archive_is_refused_and_removed(
    server: Any, transport: Transport, tmp_path: Path
) -> None:
    server.script = [sends()]
    with pytest.raises(InvalidFile, match="arrived damaged"):
        download_archive(transport, export("0" * 64), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_refusal_of_the_server_is_its_error(
    server: Any, transport: Transport, tmp_path: Path
) -> None:
    def refuse(handler: BaseHTTPRequestHandler) -> None:
        handler.send_error(404)

    server.script = [refuse]
    with pytest.raises(NotFound):
        download_archive(transport, export(), tmp_path / "out")


def test_part_that_a_killed_download_of_another_export_left_is_removed(
    server: Any, transport: Transport, tmp_path: Path
) -> None:
    left, others = tmp_path / f".out.{UUID(int=8)}.zip.part", tmp_path / ".out.notes.zip.part"
    left.write_bytes(CONTENT[:1000])
    others.write_bytes(b"not a download")
    server.script = [sends()]
    download_archive(transport, export(), tmp_path / "out")
    assert (left.exists(), others.exists()) == (False, True)


def test_part_that_another_process_writes_is_neither_written_nor_removed(
    server: Any, transport: Transport, tmp_path: Path
) -> None:
    own, other = (tmp_path / f".out.{UUID(int=number)}.zip.part" for number in (7, 8))
    with own.open("wb") as first, other.open("wb") as second:
        for file in (first, second):
            fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="already"):
            download_archive(transport, export(), tmp_path / "out")
    assert other.exists()
    assert server.requests == []
