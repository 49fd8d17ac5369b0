"""`datagen model …`: list, show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from datagen.cli.connect import connected
from datagen.cli.jobs import Cursor, Limit, tell_of_more
from datagen.cli.output import AsJson, print_fields, print_json, print_table
from datagen.embedded import Workers

if TYPE_CHECKING:
    from datagen.schemas import Model

group = typer.Typer(name="model", help="Trained generators: list, show.")


@group.command("list")
def list_models(limit: Limit = 50, cursor: Cursor = None, as_json: AsJson = False) -> None:
    """List your own and the public models, newest first."""
    with connected(Workers.NONE) as connection:
        page = connection.client.models.list(limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    print_table(
        ["model", "state", "visibility", "labels", "shape", "created"],
        [
            (
                f"{row.name}@{row.version}",
                row.state,
                row.visibility,
                len(row.class_names),
                "x".join(map(str, row.image_shape)),
                f"{row.created_at:%Y-%m-%d %H:%M:%S}",
            )
            for row in page.items
        ],
    )
    tell_of_more(page.next_cursor)


@group.command("show")
def show_model(
    reference: Annotated[str, typer.Argument(metavar="MODEL", help="Name, name@version or id.")],
    as_json: AsJson = False,
) -> None:
    """Show a model, its labels and its metrics."""
    with connected(Workers.NONE) as connection:
        model = connection.client.models.get(reference)
    print_json(model) if as_json else print_model(model)


def print_model(model: Model) -> None:
    """The model in words."""
    print_fields(
        {
            "model": f"{model.name}@{model.version}",
            "id": model.id,
            "state": model.state,
            "visibility": model.visibility,
            "labels": ", ".join(model.class_names),
            "shape": "x".join(map(str, model.image_shape)),
            "sha256": model.digest,
            "error": model.error,
            **{name.replace("_", " "): _plain(value) for name, value in model.metrics.items()},
        }
    )


def _plain(value: object) -> object:
    """A figure as text; curves are for pictures, and stand whole in the JSON."""
    if not isinstance(value, list):
        return value
    if value and isinstance(value[0], dict):
        return f"{len(value)} epochs (--json shows them)"
    return ", ".join(map(str, value))
