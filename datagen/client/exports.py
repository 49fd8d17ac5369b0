"""`Client.exports`: datasets written in a format, and bringing them here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from datagen.client.download import download_archive
from datagen.client.transport import Transport, quoted
from datagen.client.waiting import wait_for
from datagen.errors import Conflict
from datagen.export.unpacking import check_free, unpack
from datagen.schemas import Export, Page


class Exports:
    """Create, follow and download exports."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, job_id: UUID | str, format: str = "parquet") -> Export:  # noqa: A002 - the word that users know
        """Write what an ended job has stored in a format; answers at once.

        Raises:
            InvalidRequest: an unknown format, or a job that has stored nothing.
            NotFound: there is no such job.
            Conflict: the job has not ended.
        """
        return self._transport.post("/v1/exports", Export, {"job": str(job_id), "format": format})

    def get(self, export_id: UUID | str) -> Export:
        """The export as it is now. Raises NotFound."""
        return self._transport.get(f"/v1/exports/{quoted(export_id)}", Export)

    def list(
        self, *, job_id: UUID | str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[Export]:
        """One page of exports, newest first; of one job, if it is given."""
        job = None if job_id is None else str(job_id)
        return self._transport.get("/v1/exports", Page[Export], job=job, limit=limit, cursor=cursor)

    def wait(
        self,
        export_id: UUID | str,
        progress: Callable[[Export], None] | None = None,
        *,
        timeout: float | None = None,
    ) -> Export:
        """The export once it has ended, in whatever state.

        Raises:
            TimeoutError: not ended within `timeout` seconds.
        """
        return wait_for(lambda: self.get(export_id), progress, timeout)

    def download(
        self,
        export_id: UUID | str,
        out: Path | str,
        *,
        progress: Callable[[int, int], None] | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Fetch an export and unpack it, so that `out` becomes its root.

        The archive comes under a temporary name, continues where a broken connection left it, and
        is checked against the export's digest; every file is checked against the manifest before
        `out` appears.

        Args:
            export_id: an export that has succeeded.
            out: a folder that is not there yet, or empty.
            progress: told the bytes that are here and the bytes of the whole.
            overwrite: replace a former export in `out`; nothing else is ever replaced.

        Raises:
            NotFound: there is no such export.
            Conflict: the export has not succeeded.
            InvalidRequest: `out` holds something.
            StorageFailure: the files cannot be written.
            InvalidFile: what came is not what was promised.
        """
        out = Path(out)
        check_free(out, overwrite=overwrite)
        export = self.get(export_id)
        if export.state != "succeeded" or export.digest is None:
            raise Conflict(
                f"Export {export.id} is {export.state}; only one that has succeeded "
                "can be downloaded."
            )
        archive = download_archive(self._transport, export, out, progress)
        unpack(archive, out, overwrite=overwrite)
        archive.unlink(missing_ok=True)
        return out
