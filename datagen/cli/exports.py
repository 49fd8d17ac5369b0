"""`datagen export …`: create, list, show, download."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datagen.cli.connect import connected
from datagen.cli.jobs import Cursor, Limit, tell_of_more
from datagen.cli.output import (
    AsJson,
    print_fields,
    print_json,
    print_table,
    progress,
    say,
)
from datagen.embedded import Workers
from datagen.errors import DatagenError

if TYPE_CHECKING:
    from datagen.client import Client
    from datagen.schemas import Export

group = typer.Typer(name="export", help="Datasets made from jobs: create, list, show, download.")

ExportId = Annotated[str, typer.Argument(metavar="EXPORT", help="The export's id.")]
Out = Annotated[Path, typer.Option(help="Folder that becomes the export's root; not there yet.")]


@group.command("create")
def create_export(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The id of an ended job.")],
    export_format: Annotated[
        str, typer.Option("--format", help="imagefolder, parquet, …")
    ] = "parquet",
    out: Annotated[
        Path | None, typer.Option(help="Download it too: this folder becomes its root.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write what a job has stored in a format, and wait for it."""
    if out is not None:
        check_out(out)
    with connected(Workers.LIGHT) as connection:
        created = connection.client.exports.create(job_id, export_format)
        export = fetch_export(connection.client, created.id, out)
    _print_export(export, out, as_json=as_json)


@group.command("list")
def list_exports(
    job_id: Annotated[str | None, typer.Option("--job", help="Only those of this job.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """List exports, newest first."""
    with connected(Workers.NONE) as connection:
        page = connection.client.exports.list(job_id=job_id, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    print_table(
        ["export", "state", "format", "images", "bytes", "job"],
        [
            (row.id, row.state, row.format, row.images_written, row.bytes or "-", row.job)
            for row in page.items
        ],
    )
    tell_of_more(page.next_cursor)


@group.command("show")
def show_export(export_id: ExportId, as_json: AsJson = False) -> None:
    """Show an export."""
    with connected(Workers.NONE) as connection:
        export = connection.client.exports.get(export_id)
    _print_export(export, None, as_json=as_json)


@group.command("download")
def download_export(export_id: ExportId, out: Out, as_json: AsJson = False) -> None:
    """Download an export; OUT becomes its root."""
    check_out(out)
    with connected(Workers.NONE) as connection:
        _download(connection.client, export_id, out)
        export = connection.client.exports.get(export_id)
    _print_export(export, out, as_json=as_json)


def check_out(out: Path) -> None:
    """Refuse a folder that has files in it before any work is done. Raises InvalidRequest."""
    from datagen.export.unpacking import check_free  # noqa: PLC0415 - slow to load

    check_free(out)


def fetch_export(client: Client, export_id: object, out: Path | None) -> Export:
    """Wait for an export with a progress bar, and download it where `out` is given.

    Raises:
        DatagenError: the export failed.
    """
    with progress("exporting") as tell:
        export = client.exports.wait(
            str(export_id), lambda found: tell(found.images_written, found.images_total)
        )
    if export.state != "succeeded":
        raise DatagenError(f"Export {export.id} {export.state}: {export.error or 'no reason'}")
    if out is not None:
        _download(client, str(export.id), out)
    return export


def _download(client: Client, export_id: str, out: Path) -> None:
    with progress("downloading", "bytes") as tell:
        client.exports.download(export_id, out, progress=tell)


def _print_export(export: Export, out: Path | None, *, as_json: bool) -> None:
    if as_json:
        print_json(export)
        return
    print_fields(
        {
            "export": export.id,
            "state": export.state,
            "format": export.format,
            "job": export.job,
            "images": f"{export.images_written:,} of {export.images_total:,}",
            "bytes": export.bytes,
            "sha256": export.digest,
            "error": export.error,
        }
    )
    if out is not None:
        say(f"The {export.format} export is in {out}")
