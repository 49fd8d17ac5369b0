"""Bringing an archive here whole: resumed where it broke, checked against its digest."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

import httpx
import stamina

from datagen.client.transport import Transport
from datagen.errors import Conflict, InvalidFile
from datagen.schemas import Export

PART = ".zip.part"
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
        Conflict: another process downloads the same export to the same place.
        Unavailable: the connection broke again and again.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.parent / f".{out.name}.{export.id}{PART}"
    _remove_abandoned(out, part)
    try:
        with _own(part):
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


@contextmanager
def _own(part: Path) -> Iterator[None]:
    """Hold a file while it is written, so that no other process writes or removes it.

    What did not get a byte is removed again.
    """
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict(
                f"Another process is downloading to {part} already; wait until it has ended."
            ) from None
        try:
            yield
        finally:
            if not part.stat().st_size:
                part.unlink()


def _remove_abandoned(out: Path, kept: Path) -> None:
    """Remove the parts of other exports that killed downloads to the same place have left."""
    for path in out.parent.iterdir():
        name = path.name.removeprefix(f".{out.name}.").removesuffix(PART)
        if path == kept or path.name != f".{out.name}.{name}{PART}" or not _is_id(name):
            continue
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


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
