"""`datagen export …`: create, list, show, download, link; and `datagen verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from datagen.cli.connect import connected
from datagen.cli.jobs import Cursor, Limit, tell_of_more
from datagen.cli.output import (
    AsJson,
    note,
    print_fields,
    print_json,
    print_table,
    progress,
    say,
    usage_error,
)
from datagen.durations import seconds_of
from datagen.embedded import Workers
from datagen.errors import DatagenError

if TYPE_CHECKING:
    from datagen.client import Client
    from datagen.schemas import Export

group = typer.Typer(name="export", help="Datasets to download: create, list, show, download, link.")

ExportId = Annotated[str, typer.Argument(metavar="EXPORT", help="The export's id.")]
Out = Annotated[Path, typer.Option(help="Folder that becomes the export's root; not there yet.")]


@group.command("create")
def create_export(
    job_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[JOB]...", help="Ids of ended jobs; none with --dataset alone."),
    ] = None,
    *,
    export_format: Annotated[
        str, typer.Option("--format", help="One of `datagen export formats`.")
    ] = "parquet",
    dataset: Annotated[
        str | None, typer.Option(help="Real images beside them: name, name@version or id.")
    ] = None,
    fill: Annotated[
        int | None, typer.Option(min=1, help="Synthetic images fill every class up to this many.")
    ] = None,
    add: Annotated[
        int | None, typer.Option(min=1, help="This many synthetic images for every class.")
    ] = None,
    balance: Annotated[
        bool, typer.Option("--balance", help="Synthetic images fill up to the largest class.")
    ] = False,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Take what there is, where the jobs have too few."),
    ] = False,
    splits: Annotated[
        str | None,
        typer.Option(
            metavar="SHARES",
            help="Share synthetic images out: train=0.8,validation=0.1,test=0.1. Default: train.",
        ),
    ] = None,
    split_seed: Annotated[int, typer.Option(min=0, help="Which of them go where.")] = 0,
    labels: Annotated[
        str | None, typer.Option(metavar="LABEL,…", help="Only images of these labels.")
    ] = None,
    class_order: Annotated[
        str,
        typer.Option(
            metavar="dataset|name",
            help="Number the classes as the dataset or model does, or by their names.",
        ),
    ] = "dataset",
    min_score: Annotated[
        float | None, typer.Option(help="Only synthetic images of this score or more; 0 to 1.")
    ] = None,
    indices: Annotated[
        str | None,
        typer.Option(metavar="FIRST:END", help="Only synthetic images FIRST to END - 1."),
    ] = None,
    max_per_label: Annotated[
        int | None, typer.Option(min=1, help="At most so many synthetic images of a label.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Of the export; its sources' by default.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make shards again that are missing or damaged.")
    ] = False,
    destination: Annotated[
        str | None,
        typer.Option(metavar="NAME[/PATH]", help="Put the files there; the operator names them."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a former export in --out or --destination.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Download it too: this folder becomes its root.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write images of jobs, of a dataset, or of both in a format, and wait for it."""
    if not job_ids and dataset is None:
        raise usage_error("Name a JOB, several, or a --dataset.")
    if out is not None and destination is not None:
        raise usage_error("--out downloads and --destination does not; give one of them.")
    if out is not None:
        check_out(out, overwrite=overwrite)
    where, _, path = (destination or "").partition("/")
    plan = _plan(fill, add, balance=balance)
    with connected(Workers.ALL if repair else Workers.LIGHT) as connection:
        created = connection.client.exports.create(
            job_ids[0] if job_ids and len(job_ids) == 1 else job_ids or None,
            export_format,
            dataset=dataset,
            plan=plan,
            splits=None if splits is None else _shares(splits),
            split_seed=split_seed,
            labels=None if labels is None else labels.split(","),
            class_order=_class_order(class_order),
            min_score=min_score,
            indices=None if indices is None else _indices(indices),
            max_per_label=max_per_label,
            on_shortfall="keep" if keep else "fail",
            license=licence,
            repair=repair,
            destination=where or None,
            path=path or None,
            overwrite=overwrite and destination is not None,
        )
        for warning in created.warnings:
            note(f"warning: {warning}")
        export = fetch_export(connection.client, created.id, out, overwrite=overwrite)
    _print_export(export, out, as_json=as_json)


def _plan(fill: int | None, add: int | None, *, balance: bool) -> dict[str, int | bool] | None:
    given: dict[str, int | bool | None] = {"fill": fill, "add": add, "balance": balance or None}
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) > 1:
        raise usage_error(f"--{' and --'.join(named)} contradict each other; give one of them.")
    return named or None


def _shares(text: str) -> dict[str, float]:
    """Shares as the API takes them; it says itself what is wrong with their values."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        try:
            shares[name] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise usage_error(
                f"--splits is {text!r}; write it as train=0.8,validation=0.1,test=0.1."
            )
    return shares


def _class_order(text: str) -> Literal["dataset", "name"]:
    orders: dict[str, Literal["dataset", "name"]] = {"dataset": "dataset", "name": "name"}
    if text not in orders:
        raise usage_error(f"--class-order is {text!r}; write dataset or name.")
    return orders[text]


def _indices(text: str) -> tuple[int, int]:
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal()):
        raise usage_error(f"--indices is {text!r}; write it as 0:1000.")
    return int(first), int(end)


@group.command("formats")
def list_formats(as_json: AsJson = False) -> None:
    """List the formats, and what each can hold."""
    with connected(Workers.NONE) as connection:
        page = connection.client.exports.formats()
    if as_json:
        print_json(page)
        return
    print_table(
        ["format", "colours", "metadata", "splits", "what it is"],
        [
            (
                row.name,
                " and ".join(["grey"] * row.grey + ["RGB"] * row.rgb),
                "yes" if row.metadata else "no",
                ", ".join(row.splits),
                row.summary,
            )
            for row in page.items
        ],
    )


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
        ["export", "state", "format", "images", "bytes", "jobs"],
        [
            (
                row.id,
                "expired" if row.expired else row.state,
                row.format,
                row.images_written,
                row.bytes or "-",
                ", ".join(map(str, row.jobs)) or "-",
            )
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
def download_export(
    export_id: ExportId,
    out: Out,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a former export there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Download an export; OUT becomes its root."""
    check_out(out, overwrite=overwrite)
    with connected(Workers.NONE) as connection:
        _download(connection.client, export_id, out, overwrite=overwrite)
        export = connection.client.exports.get(export_id)
    _print_export(export, out, as_json=as_json)


@group.command("link")
def make_link(
    export_id: ExportId,
    archive: Annotated[str, typer.Option(help="zip or tar.")] = "zip",
    file: Annotated[
        str | None, typer.Option(metavar="PATH", help="One file of it in place of all.")
    ] = None,
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="How long it is good for: 90s, 15m, 12h, 7d.")
    ] = "1h",
    as_json: AsJson = False,
) -> None:
    """Make a link that downloads an export without a key."""
    if archive not in {"zip", "tar"}:
        raise usage_error(f"--archive is {archive!r}; give zip or tar.")
    seconds = seconds_of(expires)
    if seconds is None:
        raise usage_error(f"--expires is {expires!r}; give a time such as 90s, 15m, 12h or 7d.")
    with connected(Workers.NONE) as connection:
        link = connection.client.exports.link(
            export_id,
            archive="tar" if archive == "tar" else "zip",
            file=file,
            expires_in=max(1, round(seconds)),
        )
    print_json(link) if as_json else say(link.url)


@group.command("cancel")
def cancel_export(export_id: ExportId, as_json: AsJson = False) -> None:
    """Cancel an export that runs."""
    with connected(Workers.NONE) as connection:
        export = connection.client.exports.cancel(export_id)
    _print_export(export, None, as_json=as_json)


@group.command("remove")
def remove_export(export_id: ExportId, as_json: AsJson = False) -> None:
    """Remove an export that has ended, with its files."""
    with connected(Workers.NONE) as connection:
        connection.client.exports.remove(export_id)
    print_json({"removed": export_id}) if as_json else say(f"Export {export_id} is removed.")


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The root of an export.")],
    as_json: AsJson = False,
) -> int:
    """Check every file of a downloaded export against its manifest."""
    from datagen.export.manifest import files_count  # noqa: PLC0415 - slow to load
    from datagen.export.manifest import verify as verified  # noqa: PLC0415

    total, wrong = files_count(folder), []
    with progress("verifying", "files") as tell:
        for checked, problem in enumerate(verified(folder), start=1):
            tell(min(checked, total), total)
            if problem is not None:
                wrong.append(problem)
                if not as_json:
                    note(problem)
    if as_json:
        print_json({"folder": str(folder), "files": total, "problems": wrong})
    elif not wrong:
        say(f"All {total:,} files of {folder} are as they were written.")
    else:
        say(f"{len(wrong):,} of {total:,} files of {folder} are not as they were written.")
    return 1 if wrong else 0


def check_out(out: Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that has files in it before any work is done. Raises InvalidRequest."""
    from datagen.export.unpacking import check_free  # noqa: PLC0415 - slow to load

    check_free(out, overwrite=overwrite)


def fetch_export(
    client: Client, export_id: object, out: Path | None, *, overwrite: bool = False
) -> Export:
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
        _download(client, str(export.id), out, overwrite=overwrite)
    return export


def _download(client: Client, export_id: str, out: Path, *, overwrite: bool = False) -> None:
    with progress("downloading", "bytes") as tell:
        client.exports.download(export_id, out, progress=tell, overwrite=overwrite)


def _print_export(export: Export, out: Path | None, *, as_json: bool) -> None:
    if as_json:
        print_json(export)
        return
    print_fields(
        {
            "export": export.id,
            "state": "expired" if export.expired else export.state,
            "format": export.format,
            "jobs": ", ".join(map(str, export.jobs)) or None,
            "dataset": export.dataset,
            "images": f"{export.images_written:,} of {export.images_total:,}",
            "bytes": export.bytes,
            "lies at": export.location,
            "sha256": export.digest,
            "expires": None if export.expires_at is None else f"{export.expires_at:%Y-%m-%d %H:%M}",
            "error": export.error,
        }
    )
    if out is not None:
        say(f"The {export.format} export is in {out}")
