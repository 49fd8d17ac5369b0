"""`datagen dataset …`: add, list, show, remove."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

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
    write_file,
)
from datagen.embedded import Workers

if TYPE_CHECKING:
    from datagen.client.options import ReadingOptions
    from datagen.schemas import Dataset, DatasetInspection

SHOWN_PROBLEMS = 10

group = typer.Typer(name="dataset", help="Real labelled images: add, list, show, remove.")


class OnError(StrEnum):
    """What a file that cannot be read does."""

    FAIL = "fail"
    SKIP = "skip"


@group.command("add")
def add_dataset(
    name: Annotated[str, typer.Argument(help="Name of the dataset; leave it out with --dry-run.")],
    source: Annotated[
        str | None,
        typer.Argument(
            help="A folder, zip, tar, NPZ or Parquet file, a CSV or JSONL table beside its "
            "pictures, sample:mnist, torchvision:NAME, or a URL that the server may read."
        ),
    ] = None,
    *,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would be registered, and register nothing."),
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Resize every image to this side, in pixels."),
    ] = None,
    pad: Annotated[
        bool, typer.Option("--pad", help="With --size: keep the proportions, and fill the edges.")
    ] = False,
    on_error: Annotated[
        OnError,
        typer.Option(help="Where a file cannot be read: refuse the dataset, or skip the file."),
    ] = OnError.FAIL,
    split: Annotated[
        str | None,
        typer.Option(
            help="Share of each split, where the data has none: "
            "train=0.8,validation=0.1,test=0.1 (default).",
            metavar="SHARES",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Chooses which images go into which split.")] = 0,
    licence: Annotated[
        str | None,
        typer.Option(
            "--license", help="Licence of the images and their exports, such as cc-by-4.0."
        ),
    ] = None,
    zip_encoding: Annotated[
        str | None,
        typer.Option(
            help="Encoding of the names in a zip that does not mark them as UTF-8, such as cp932.",
            metavar="NAME",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Pack labelled images and upload them; the same images again are the same version."""
    from datagen.datasets.reading import shares_of  # noqa: PLC0415 - loads numpy

    shares = None if split is None else shares_of(split)
    options: ReadingOptions = {
        "size": size,
        "pad": pad,
        "on_error": on_error.value,
        "split": shares,
        "seed": seed,
        "zip_encoding": zip_encoding,
    }
    if dry_run:
        inspection = _inspect(name if source is None else source, options)
        print_json(inspection) if as_json else _print_inspection(inspection)
        return
    if source is None:
        raise usage_error(
            f"No source was given for the dataset {name!r}; give a folder, a file or a URL."
        )
    with connected(Workers.NONE) as connection, progress("uploading", "bytes") as tell:
        dataset = connection.client.datasets.add(name, source, tell, license=licence, **options)
    print_json(dataset) if as_json else _print_dataset(dataset)


def _inspect(source: str, options: ReadingOptions) -> DatasetInspection:
    """What a source holds; what lies on this machine is read without a server."""
    from datagen.client.datasets import inspect_here, is_remote  # noqa: PLC0415 - as above

    if not is_remote(source):
        return inspect_here(source, **options)
    with connected(Workers.NONE) as connection:
        return connection.client.datasets.inspect(source, **options)


@group.command("list")
def list_datasets(limit: Limit = 50, cursor: Cursor = None, as_json: AsJson = False) -> None:
    """List datasets, newest first."""
    with connected(Workers.NONE) as connection:
        page = connection.client.datasets.list(limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    print_table(
        ["dataset", "images", "labels", "shape", "created"],
        [
            (
                f"{row.name}@{row.version}",
                sum(map(sum, row.counts.values())),
                len(row.class_names),
                "x".join(map(str, row.image_shape)),
                f"{row.created_at:%Y-%m-%d %H:%M:%S}",
            )
            for row in page.items
        ],
    )
    tell_of_more(page.next_cursor)


@group.command("show")
def show_dataset(
    reference: Annotated[str, typer.Argument(metavar="DATASET", help="Name, name@version or id.")],
    picture: Annotated[
        Path | None, typer.Option(help="Write the class balance as PNG or SVG.", metavar="FILE")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a dataset, its images per label and what was found in it."""
    kind = None if picture is None else picture.suffix.lower().removeprefix(".")
    if kind not in {None, "png", "svg"}:
        raise usage_error(f"--picture is {str(picture)!r}; name a file that ends in .png or .svg.")
    with connected(Workers.NONE) as connection:
        dataset = connection.client.datasets.get(reference)
        if picture is not None:
            drawn = connection.client.datasets.balance(
                dataset.id, "png" if kind == "png" else "svg"
            )
            write_file(picture, drawn)
            note(f"The class balance is in {picture}")
    print_json(dataset) if as_json else _print_dataset(dataset)


@group.command("remove")
def remove_dataset(
    reference: Annotated[str, typer.Argument(metavar="DATASET", help="Name, name@version or id.")],
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Although models were trained on it: they stay, its images go."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a dataset."""
    with connected(Workers.NONE) as connection:
        connection.client.datasets.remove(reference, force=force)
    print_json({"removed": reference}) if as_json else say(f"The dataset {reference} is removed.")


def _print_dataset(dataset: Dataset) -> None:
    registered = {"dataset": f"{dataset.name}@{dataset.version}", "id": dataset.id}
    _print_inspection(dataset, registered, {"sha256": dataset.digest})


def _print_inspection(
    dataset: DatasetInspection,
    before: Mapping[str, Any] = MappingProxyType({}),
    after: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    report = dataset.report
    print_fields(
        {
            **before,
            "layout": report.get("source"),
            "shape": "x".join(map(str, dataset.image_shape)),
            "images": sum(map(sum, dataset.counts.values())),
            "splits": ", ".join(f"{split} {sum(own):,}" for split, own in dataset.counts.items()),
            "duplicates": report.get("duplicates") or None,
            "under several labels": report.get("conflicting") or None,
            "skipped": report.get("skipped_count") or None,
            **after,
        }
    )
    for sentence in report.get("notes", ()):
        note(f"note: {sentence}")
    for problem in report.get("skipped", ())[:SHOWN_PROBLEMS]:
        note(f"skipped: {problem['reason']}")
    splits = list(dataset.counts)
    print_table(
        ["label", *splits],
        [
            (name, *(dataset.counts[split][number] for split in splits))
            for number, name in enumerate(dataset.class_names)
        ],
    )
