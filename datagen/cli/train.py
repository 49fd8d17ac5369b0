"""`datagen train`: a model from a dataset."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from datagen.cli.connect import Connection, connected
from datagen.cli.models import print_model
from datagen.cli.output import FAILED, AsJson, Tell, note, print_json, progress, say
from datagen.errors import DatagenError

if TYPE_CHECKING:
    from datagen.schemas import Model

# The bar itself shows how fast it goes.
_PACE = frozenset({"images_per_second", "seconds_left"})


def train(
    name: Annotated[str, typer.Argument(help="What the model is called.")],
    *,
    dataset: Annotated[str, typer.Option(help="Name, name@version or id.")],
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes of the generator.")] = None,
    refine_epochs: Annotated[
        int | None, typer.Option(min=0, help="Adversarial passes after them.")
    ] = None,
    judge_epochs: Annotated[int | None, typer.Option(min=1, help="Passes of the judge.")] = None,
    latent_dim: Annotated[int | None, typer.Option(min=1, help="Latent dimensions.")] = None,
    width: Annotated[int | None, typer.Option(min=8, help="Channels of the convolutions.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Images a step.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same training.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Answer at once; do not wait.")] = False,
    as_json: AsJson = False,
) -> int:
    """Train a generator and its judge on a dataset, and follow it."""
    given = {
        "epochs": epochs,
        "refine_epochs": refine_epochs,
        "judge_epochs": judge_epochs,
        "latent_dim": latent_dim,
        "width": width,
        "batch_size": batch_size,
        "seed": seed,
    }
    options = {option: value for option, value in given.items() if value is not None}
    with connected(must_run=detach) as connection:
        model = connection.client.models.create(name, dataset, **options)
        if not detach:
            model = _wait(connection, model)
    if as_json:
        print_json(model)
    elif detach:
        say(f"Model {model.name}@{model.version} is {model.state}; its id is {model.id}")
    else:
        print_model(model)
    if not detach and model.state != "succeeded":
        note(f"error: the training of {model.name}@{model.version} {model.state}: {model.error}")
        return FAILED
    return 0


def _wait(connection: Connection, model: Model) -> Model:
    try:
        with progress("training", "steps") as tell:
            return connection.client.models.wait(model.id, lambda found: _show(found, tell))
    except KeyboardInterrupt:
        if connection.is_own:
            with suppress(DatagenError):
                connection.client.models.cancel(model.id)
            note(f"The training of {model.name}@{model.version} is cancelled.")
        else:
            note(f"The training goes on; see it with: datagen model show {model.id}")
        raise


def _show(model: Model, tell: Tell) -> None:
    """Tell the stage, the epoch and the losses that the training has written down."""
    told = model.progress
    if not told:
        return
    losses = [
        f"{name} {value:.4g}"
        for name, value in told.items()
        if isinstance(value, float) and name not in _PACE
    ]
    where = f"{told['stage']}, epoch {told['epoch']} of {told['epochs']}"
    tell(told["step"], told["steps"], "  ".join([where, *losses]))
