"""`Client.exports`: datasets written in a format, and bringing them here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack
from uuid import UUID

from datagen.client.download import download_archive
from datagen.client.options import ExportOptions, refuse_unknown
from datagen.client.resources import Export
from datagen.client.transport import Transport, quoted
from datagen.client.waiting import Told, byte_progress, wait_for
from datagen.errors import Conflict, Gone
from datagen.schemas import Format, Link, Page


def _as_json(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


class Exports:
    """Create, follow and download exports."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        jobs: UUID | str | Sequence[UUID | str] | None = None,
        format: str = "parquet",  # noqa: A002 - the word that users know
        **options: Unpack[ExportOptions],
    ) -> Export:
        """Write images of ended jobs, of a dataset, or of both in a format; answers at once.

        Args:
            jobs: the id of a job, or several in the order in which their images stand; none where
                a dataset's own images are all.
            format: one of `formats()`.
            options: see `datagen.client.options.ExportOptions`.

        Raises:
            InvalidRequest: an unknown format or one that cannot hold the images, sources that do
                not fit together, a plan that cannot be met, or nothing to export.
            NotFound: there is no such job or dataset.
            Conflict: a job has not ended.
        """
        refuse_unknown(options, ExportOptions)
        source: dict[str, Any]
        if jobs is None or isinstance(jobs, UUID | str):
            source = {"job": None if jobs is None else str(jobs)}
        else:
            source = {"jobs": [str(job_id) for job_id in jobs]}
        told = {name: _as_json(value) for name, value in options.items() if value is not None}
        return self._transport.post("/v1/exports", Export, source | {"format": format} | told)

    def formats(self) -> Page[Format]:
        """The formats that exports can be written in, and what each can hold."""
        return self._transport.get("/v1/formats", Page[Format])

    def cancel(self, export_id: UUID | str) -> Export:
        """End an export that runs. Raises NotFound, or Conflict where it has ended."""
        return self._transport.post(f"/v1/exports/{quoted(export_id)}/cancel", Export)

    def remove(self, export_id: UUID | str) -> None:
        """Remove an export that has ended, with its files. Raises NotFound or Conflict."""
        self._transport.delete(f"/v1/exports/{quoted(export_id)}")

    def link(
        self,
        export_id: UUID | str,
        *,
        archive: Literal["zip", "tar"] = "zip",
        file: str | None = None,
        expires_in: int = 3600,
    ) -> Link:
        """A URL that downloads the export, or one file of it, without a key.

        Args:
            export_id: one that has succeeded.
            archive: as what.
            file: the path of one file in place of all.
            expires_in: seconds that the link is good for, a week at most.

        Raises:
            NotFound: there is no such export or file.
            Conflict: it has not succeeded.
            Gone: it has expired.
        """
        wanted = {"archive": archive, "file": file, "expires_in": expires_in}
        return self._transport.post(f"/v1/exports/{quoted(export_id)}/links", Link, wanted)

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
        progress: Told[Export] = None,
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
        progress: Callable[[int, int], None] | Literal[True] | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Fetch an export and unpack it, so that `out` becomes its root.

        The archive comes under a temporary name, continues where a broken connection left it, and
        is checked against the export's digest; every file is checked against the manifest before
        `out` appears.

        Args:
            export_id: an export that has succeeded.
            out: a folder that is not there yet, or empty.
            progress: told the bytes that are here and the bytes of the whole; True shows a bar.
            overwrite: replace a former export in `out`; nothing else is ever replaced.

        Raises:
            NotFound: there is no such export.
            Conflict: the export has not succeeded.
            InvalidRequest: `out` holds something.
            StorageFailure: the files cannot be written.
            InvalidFile: what came is not what was promised.
        """
        # PyArrow takes as long to load as all of the client, and few of its users download.
        from datagen.export.unpacking import check_free, unpack  # noqa: PLC0415

        out = Path(out)
        check_free(out, overwrite=overwrite)
        export = self.get(export_id)
        if export.expired:
            raise Gone(
                f"Export {export.id} has expired; create it again: the same request gives the same "
                "files."
            )
        if export.state != "succeeded" or export.digest is None:
            raise Conflict(
                f"Export {export.id} is {export.state}; only one that has succeeded "
                "can be downloaded."
            )
        with byte_progress(progress, "downloading") as told:
            archive = download_archive(self._transport, export, out, told)
        unpack(archive, out, overwrite=overwrite)
        archive.unlink(missing_ok=True)
        return out
