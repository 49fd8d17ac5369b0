"""Bringing an archive here whole: resumed where it broke, checked against its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import stamina

from datagen.client.transport import Transport
from datagen.errors import InvalidFile
from datagen.schemas import Export

ATTEMPTS = 8
PARTIAL_CONTENT = 206


def download_archive(
    transport: Transport,
    export: Export,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Fetch the zip of an export into a hidden `.part` file beside `out`.

    A file that an earlier, interrupted call left is continued.

    Args:
        transport: the connection to the server.
        export: one that has succeeded: its digest and size say what is expected.
        out: where the export will be unpacked; its parent folder is made.
        progress: told the bytes that are here and the bytes of the whole.

    Raises:
        InvalidFile: what came does not have the export's digest.
        Unavailable: the connection broke again and again.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.parent / f".{out.name}.{export.id}.zip.part"
    try:
        for attempt in stamina.retry_context(
            on=httpx.TransportError, attempts=ATTEMPTS, timeout=None, wait_max=10.0
        ):
            with attempt:
                _continue(transport, export, part, progress)
    except httpx.TransportError as error:
        raise transport.failure(error) from error
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != export.digest:
        part.unlink()
        raise InvalidFile(
            f"The archive of export {export.id} arrived damaged: its SHA-256 is {digest}, not "
            f"{export.digest}; download it again."
        )
    return part


def _continue(
    transport: Transport,
    export: Export,
    part: Path,
    progress: Callable[[int, int], None] | None,
) -> None:
    here = part.stat().st_size if part.exists() else 0
    total = export.bytes or 0
    if total and here == total:
        return
    headers = {"Accept-Encoding": "identity"}
    if 0 < here < total:
        # If-Range: should the archive be another by now, all of it comes instead of its end.
        headers |= {"Range": f"bytes={here}-", "If-Range": f'"{export.digest}"'}
    with transport.stream(f"/v1/exports/{export.id}/download", headers) as response:
        resumed = response.status_code == PARTIAL_CONTENT
        here = here if resumed else 0
        with part.open("ab" if resumed else "wb") as file:
            # As the chunks come, not gathered: what is gathered is lost when the connection breaks.
            for chunk in response.iter_raw():
                file.write(chunk)
                here += len(chunk)
                if progress is not None:
                    progress(here, total)
