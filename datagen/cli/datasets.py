"""`datagen dataset …`: add, list, show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datagen.cli.connect import connected
from datagen.cli.jobs import Cursor, Limit, tell_of_more
from datagen.cli.output import AsJson, print_fields, print_json, print_table, progress
from datagen.embedded import Workers

if TYPE_CHECKING:
    from datagen.schemas import Dataset

group = typer.Typer(name="dataset", help="Real labelled images: add, list, show.")


@group.command("add")
def add_dataset(
    name: Annotated[str, typer.Argument(help="What the dataset is called.")],
    source: Annotated[
        Path, typer.Argument(help="A tree of class folders, or a folder with MNIST IDX files.")
    ],
    as_json: AsJson = False,
) -> None:
    """Pack a folder of labelled images and upload it."""
    with connected(Workers.NONE) as connection, progress("uploading", "bytes") as tell:
        dataset = connection.client.datasets.add(name, source, tell)
    print_json(dataset) if as_json else _print_dataset(dataset)


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
    as_json: AsJson = False,
) -> None:
    """Show a dataset and its images per label."""
    with connected(Workers.NONE) as connection:
        dataset = connection.client.datasets.get(reference)
    print_json(dataset) if as_json else _print_dataset(dataset)


def _print_dataset(dataset: Dataset) -> None:
    print_fields(
        {
            "dataset": f"{dataset.name}@{dataset.version}",
            "id": dataset.id,
            "shape": "x".join(map(str, dataset.image_shape)),
            "sha256": dataset.digest,
        }
    )
    splits = list(dataset.counts)
    print_table(
        ["label", *splits],
        [
            (name, *(dataset.counts[split][number] for split in splits))
            for number, name in enumerate(dataset.class_names)
        ],
    )
