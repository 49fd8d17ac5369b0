"""`datagen model report`: what a model has learnt, as a folder of pictures and a page."""

from __future__ import annotations

import json
import shutil
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datagen.cli.connect import connected
from datagen.cli.output import AsJson, Tell, print_json, progress, say, usage_error
from datagen.errors import DatagenError, StorageFailure
from datagen.scratch import scratch_beside

if TYPE_CHECKING:
    from datagen.client import Client
    from datagen.schemas import Figures, Model

KINDS = ("png", "svg", "json")
PAGE = "index.html"
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2.5rem 0 0.25rem; }
figure { margin: 0; } figcaption { margin-bottom: 0.75rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
table { border-collapse: collapse; } td { padding: 0.15rem 1rem 0.15rem 0; vertical-align: top; }
.more { font-size: 0.875rem; }
"""
_FACTS = (
    "negative_elbo", "reconstruction", "kl", "measured_on", "judge_test_accuracy",
    "judge_agreement", "prior", "density_components", "parameters",
)  # fmt: skip


def report(
    reference: Annotated[str, typer.Argument(metavar="MODEL", help="Name, name@version or id.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures; empty, or not there yet.")],
    dataset: Annotated[
        str | None,
        typer.Option(help="Real images to show beside; what it was trained on by default."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a report that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw what a model has learnt: pictures, their numbers, and a page that shows them all."""
    _check_free(out, force=force)
    with connected() as connection, progress("drawing", "figures") as tell:
        client = connection.client
        model = client.models.get(reference)
        client.figures.create(model.id, dataset)
        drawn = client.figures.wait(model.id, dataset)
        if drawn.state != "succeeded":
            raise DatagenError(f"The figures were not drawn: {drawn.error}")
        _write(client, model, drawn, dataset, out, tell)
    if as_json:
        print_json(drawn)
        return
    say(f"{len(drawn.names)} figures are in {out}; open {out / PAGE}")


def _check_free(out: Path, *, force: bool) -> None:
    there = out.is_dir() and any(out.iterdir())
    if (out.exists() and not out.is_dir()) or (there and not (force and (out / PAGE).is_file())):
        raise usage_error(
            f"{out} is not an empty folder; name another, or replace a report with --force.", "out"
        )


def _write(
    client: Client, model: Model, drawn: Figures, dataset: str | None, out: Path, tell: Tell
) -> None:
    """All files in a folder beside the target, then one rename."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with scratch_beside(out) as around:
            folder = around / "report"
            folder.mkdir()
            captions = {}
            for number, figure in enumerate(drawn.names, start=1):
                for kind in KINDS:
                    data = client.figures.fetch(model.id, f"{figure}.{kind}", dataset)
                    (folder / f"{figure}.{kind}").write_bytes(data)
                captions[figure] = json.loads(data)["caption"]
                tell(number, len(drawn.names))
            (folder / PAGE).write_text(_page(model, captions), encoding="utf-8")
            if out.exists():
                shutil.rmtree(out)
            folder.replace(out)
    except OSError as error:
        raise StorageFailure(f"{out} cannot be written: {error.strerror or error}.") from error


def _page(model: Model, captions: dict[str, str]) -> str:
    """One page that shows all pictures, without a script and readable offline."""
    title = escape(f"What {model.name}@{model.version} has learnt")
    facts: dict[str, Any] = {
        "family": model.config.get("family"),
        "labels": ", ".join(model.class_names),
        "image shape": "x".join(map(str, model.image_shape)),
        "sha256": model.digest,
    }
    facts |= {name.replace("_", " "): model.metrics.get(name) for name in _FACTS}
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
        if value is not None
    )
    figures = "".join(
        f"<section><h2>{escape(name.replace('-', ' '))}</h2><figure><figcaption>"
        f'{escape(caption)} <span class="more"><a href="{name}.svg">SVG</a> '
        f'<a href="{name}.json">numbers</a></span></figcaption>'
        f'<img src="{name}.png" alt="{escape(caption)}"></figure></section>'
        for name, caption in captions.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1><table>{rows}</table>{figures}</body></html>\n"
    )
