"""`datagen model …`: preview, list, show, share, cancel, compare, export, import, remove."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from datagen.cli.connect import connected
from datagen.cli.jobs import Cursor, Limit, parse_labels, tell_of_more
from datagen.cli.output import (
    AsJson,
    note,
    print_fields,
    print_json,
    print_table,
    progress,
    say,
    warn,
    write_file,
)
from datagen.embedded import Workers
from datagen.model_quality import MEASURES, NOTES, quality_rows, training_notes

if TYPE_CHECKING:
    from datagen.schemas import Model, ModelRef, Sampler

GROUPED_FROM = 10_000
LONGEST_VALUE = 20

group = typer.Typer(
    name="model",
    help="Trained generators: preview, list, show, share, cancel, compare, export, import, remove.",
)


@group.command("preview")
def preview_model(
    reference: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="Name, name@version or id.")
    ] = "mnist",
    *,
    labels: Annotated[
        str | None, typer.Option(metavar="LABEL=N,…", help="Such as 3=8,8=8; 64 in all at most.")
    ] = None,
    per_label: Annotated[int | None, typer.Option(min=1, help="This many of every label.")] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="This many of a model without labels.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same images.")] = 0,
    sampler: Annotated[
        str | None,
        typer.Option(help="prior, density, neighbour or interpolate; the model's best by default."),
    ] = None,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="Below 1: safer and less varied.")
    ] = 1.0,
    strength: Annotated[
        float | None,
        typer.Option(help="With --sampler neighbour: distance from the real image, 0 to 1."),
    ] = None,
    scale: Annotated[int, typer.Option(min=1, max=8, help="How far images are enlarged.")] = 2,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("preview.png"),
    as_json: AsJson = False,
) -> None:
    """Make up to 64 images at once, and a picture of them; nothing is kept."""
    with connected() as connection:
        pictures = connection.client.models.preview(
            reference,
            parse_labels(labels),
            per_label=per_label,
            count=count,
            seed=seed,
            sampler=cast("Sampler", sampler or "recommended"),
            temperature=temperature,
            strength=strength,
        )
    if as_json:
        print_json(pictures.preview)
        return
    write_file(out, pictures.sheet(scale))
    model = pictures.preview.model
    say(f"{len(pictures)} images of {model.name}@{model.version} are in {out}")
    warn(pictures.preview.notes)


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


@group.command("cancel")
def cancel_model(
    reference: Annotated[str, typer.Argument(metavar="MODEL", help="Name, name@version or id.")],
    as_json: AsJson = False,
) -> None:
    """Stop a training that has not ended."""
    with connected(Workers.NONE) as connection:
        model = connection.client.models.cancel(reference)
    print_json(model) if as_json else print_model(model)


@group.command("compare")
def compare_models(
    references: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Two or more: name, name@version or id.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show models side by side; * marks the best value, ≠ where they differ."""
    with connected(Workers.NONE) as connection:
        found = connection.client.models.compare(*references)
    if as_json:
        print_json(found)
        return
    for warning in found.warnings:
        note(f"warning: {warning}")
    print_table(
        ["", "", *(f"{one.name}@{one.version}" for one in found.models)],
        [
            (
                row.name.replace("_", " "),
                "≠" if row.differs else "",
                *(
                    f"{_short(value)}{' *' if number in row.best else ''}"
                    for number, value in enumerate(row.values)
                ),
            )
            for row in found.rows
            if any(value is not None for value in row.values)
        ],
    )


def _short(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if value >= GROUPED_FROM else str(value)
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:12]}…"


@group.command("export")
def export_model(
    reference: Annotated[str, typer.Argument(metavar="MODEL", help="Name, name@version or id.")],
    out: Annotated[Path, typer.Option(help="The zip file to write.", metavar="FILE")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a model with its judge into one file, to be imported elsewhere."""
    with connected(Workers.NONE) as connection, progress("exporting", "bytes") as tell:
        connection.client.models.export(reference, out, tell, overwrite=force)
    size = out.stat().st_size
    if as_json:
        print_json({"file": str(out), "bytes": size})
    else:
        say(f"{reference} is in {out} ({size:,} bytes)")


@group.command("import")
def import_model(
    name: Annotated[str, typer.Argument(help="What the model is called here.")],
    source: Annotated[Path, typer.Argument(help="A file that `datagen model export` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Register a model that was exported; it is checked whole before anything is kept."""
    with connected(Workers.NONE) as connection, progress("importing", "bytes") as tell:
        model = connection.client.models.import_(name, source, tell)
    print_json(model) if as_json else print_model(model)


@group.command("share")
def share_model(
    reference: Annotated[str, typer.Argument(metavar="MODEL", help="Name, name@version or id.")],
    private: Annotated[bool, typer.Option("--private", help="Keep it to yourself again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let every owner make images with a model; they see none that it was trained on."""
    with connected(Workers.NONE) as connection:
        model = connection.client.models.share(reference, "private" if private else "public")
    if as_json:
        print_json(model)
    else:
        say(f"The model {model.name}@{model.version} is {model.visibility}.")


@group.command("remove")
def remove_model(
    reference: Annotated[str, typer.Argument(metavar="MODEL", help="Name, name@version or id.")],
    force: Annotated[
        bool,
        typer.Option("--force", help="Although jobs have used it: they stay, its weights go."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a model."""
    with connected(Workers.NONE) as connection:
        connection.client.models.remove(reference, force=force)
    print_json({"removed": reference}) if as_json else say(f"The model {reference} is removed.")


def print_model(model: Model) -> None:
    """The model in words."""
    print_fields(
        {
            "model": f"{model.name}@{model.version}",
            "id": model.id,
            "state": model.state,
            "visibility": model.visibility,
            "family": model.config.get("family") or model.options.get("family"),
            "labels": ", ".join(model.class_names),
            "shape": "x".join(map(str, model.image_shape)),
            "dataset sha256": model.dataset_digest,
            "trained from": _named(model.parent) or model.parent_digest,
            "sha256": model.digest,
            "seconds": round(model.seconds, 1) or None,
            "device": model.device,
            "error": model.error,
            **{
                name.replace("_", " "): _plain(value)
                for name, value in model.metrics.items()
                if name not in MEASURES | {NOTES}
            },
        }
    )
    if rows := quality_rows(model.metrics):
        heads = ["measured", "generated", "real", "guessing"]
        # Models of earlier versions do not say what guessing reaches.
        known = len(heads) if any(row.chance for row in rows) else len(heads) - 1
        print_table(heads[:known], [row[:known] for row in rows])
    warn(training_notes(model.metrics or model.progress))


def _named(model: ModelRef | None) -> str | None:
    return None if model is None else f"{model.name}@{model.version}"


def _plain(value: object) -> object:
    """A figure as text; curves are for pictures, and stand whole in the JSON."""
    if not isinstance(value, list):
        return value
    if value and isinstance(value[0], dict):
        return f"{len(value)} epochs (--json shows them)"
    return ", ".join(map(str, value))
