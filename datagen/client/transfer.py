"""Files on their way to the server and from it, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import httpx

from datagen.client.transport import Transport
from datagen.errors import Conflict, StorageFailure
from datagen.scratch import scratch_beside

CHUNK_BYTES = 1 << 20
Told = Callable[[int, int], None]


def in_chunks(file: BinaryIO, length: int, progress: Told | None) -> Iterator[bytes]:
    """A file's bytes, and word of how many were sent."""
    sent = 0
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
        sent += len(chunk)
        if progress is not None:
            progress(sent, length)


def save_file(
    transport: Transport, path: str, out: Path, progress: Told | None, *, overwrite: bool
) -> Path:
    """Write what the server answers into a file, whole or not at all.

    Raises:
        Conflict: the file is there already.
        StorageFailure: it cannot be written.
    """
    if out.exists() and not overwrite:
        raise Conflict(
            f"{out} is there already; name another file, or have it replaced (overwrite, --force)."
        )
    try:
        with scratch_beside(out) as folder:
            incoming = folder / out.name
            with transport.stream(path, {}) as response, incoming.open("wb") as file:
                length = int(response.headers.get("content-length", 0))
                done = 0
                for chunk in response.iter_bytes(CHUNK_BYTES):
                    file.write(chunk)
                    done += len(chunk)
                    if progress is not None:
                        progress(done, length)
            incoming.replace(out)
    except httpx.TransportError as error:
        raise transport.failure(error) from error
    except OSError as error:
        raise StorageFailure(f"{out} cannot be written: {error.strerror or error}.") from error
    return out
