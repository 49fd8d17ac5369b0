"""`datagen train`: a model from a dataset."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from datagen.cli.connect import Connection, connected
from datagen.cli.models import print_model
from datagen.cli.output import (
    FAILED,
    AsJson,
    Tell,
    note,
    print_json,
    progress,
    say,
    usage_error,
    warn,
)
from datagen.durations import seconds_of
from datagen.errors import DatagenError
from datagen.model_quality import training_notes

if TYPE_CHECKING:
    from datagen.client.resources import Model

# The bar itself shows how fast it goes.
_PACE = frozenset({"images_per_second", "seconds_left"})


def train(
    name: Annotated[str, typer.Argument(help="What the model is called.")],
    *,
    dataset: Annotated[str, typer.Option(help="Name, name@version or id.")],
    from_model: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Start from the weights of this model: name, name@version or id.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="small, base or large; what device and time budget suit if not given."),
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option(help="How long it may take: 90s, 5m or 2h.", metavar="TIME")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes of the generator.")] = None,
    refine: Annotated[
        bool | None,
        typer.Option(
            "--refine/--no-refine",
            help="Fine-tune the decoder against a discriminator afterwards, or not; by default "
            "for strokes, such as digits, in large classes.",
        ),
    ] = None,
    refine_sampler: Annotated[
        str | None, typer.Option(help="What it draws from: prior, density or neighbour.")
    ] = None,
    refine_epochs: Annotated[
        int | None, typer.Option(min=0, help="Passes of that refinement; 0 for none.")
    ] = None,
    judge_epochs: Annotated[int | None, typer.Option(min=1, help="Passes of the judge.")] = None,
    latent_dim: Annotated[int | None, typer.Option(min=1, help="Latent dimensions.")] = None,
    width: Annotated[int | None, typer.Option(min=8, help="Channels of the convolutions.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Images a step.")] = None,
    family: Annotated[str | None, typer.Option(help="cvae (default), vae or autoencoder.")] = None,
    likelihood: Annotated[
        str | None,
        typer.Option(
            help="bernoulli, gaussian, laplace or discretized_logistic; what suits the images if "
            "not given."
        ),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(help="standard, normal, learnt or flow; what suits the images if not given."),
    ] = None,
    balanced: Annotated[
        bool | None, typer.Option("--balanced", help="Draw every class equally often.")
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(help="none or affine: turn, scale, shear and shift images while training."),
    ] = None,
    patience: Annotated[
        int | None, typer.Option(min=0, help="Epochs without gain after which it stops; 0 never.")
    ] = None,
    average: Annotated[
        float | None, typer.Option(help="Decay of the weights' moving average, such as 0.999.")
    ] = None,
    beta: Annotated[float | None, typer.Option(min=0, help="Weight of the KL.")] = None,
    kl_schedule: Annotated[
        str | None, typer.Option(help="linear (default), cyclical or constant.")
    ] = None,
    free_bits: Annotated[
        float | None, typer.Option(min=0, help="Nats a dimension that the KL has for nothing.")
    ] = None,
    label_dropout: Annotated[
        float | None, typer.Option(help="Share of the labels that are left out.")
    ] = None,
    no_kl: Annotated[
        bool | None, typer.Option("--no-kl", help="Leave the KL out, to see what it is for.")
    ] = None,
    no_reconstruction: Annotated[
        bool | None, typer.Option("--no-reconstruction", help="Leave the reconstruction out.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same training.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Answer at once; do not wait.")] = False,
    as_json: AsJson = False,
) -> int:
    """Train a generator and its judge on a dataset, and follow it."""
    given = {
        "preset": preset,
        "time_budget": _seconds(time_budget),
        "epochs": epochs,
        # That it is not wanted is said by no epochs of it.
        "refine": refine or None,
        "refine_epochs": _refine_epochs(refine, refine_epochs),
        "refine_sampler": refine_sampler,
        "judge_epochs": judge_epochs,
        "latent_dim": latent_dim,
        "width": width,
        "batch_size": batch_size,
        "family": family,
        "likelihood": likelihood,
        "prior": prior,
        "balanced": balanced,
        "augment": augment,
        "patience": patience,
        "average": average,
        "beta": beta,
        "kl_schedule": kl_schedule,
        "free_bits": free_bits,
        "label_dropout": label_dropout,
        "no_kl": no_kl,
        "no_reconstruction": no_reconstruction,
        "seed": seed,
    }
    options = {option: value for option, value in given.items() if value is not None}
    with connected(must_run=detach) as connection:
        model = connection.client.models.create(name, dataset, from_model=from_model, **options)
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


def _refine_epochs(refine: bool | None, epochs: int | None) -> int | None:
    """The epochs that both options come to; None leaves them to the server."""
    if refine is None or (refine and epochs != 0):
        return epochs
    if refine or epochs:
        raise usage_error(
            f"--{'refine' if refine else 'no-refine'} and --refine-epochs {epochs} contradict each "
            "other; give one of them."
        )
    return 0


def _seconds(text: str | None) -> float | None:
    """Seconds of a length of time such as 90s, 5m or 2h. Raises InvalidRequest."""
    if text is None:
        return None
    seconds = seconds_of(text)
    if seconds is None:
        raise usage_error(f"--time-budget is {text!r}; give a time such as 90s, 5m or 2h.")
    return seconds


def _wait(connection: Connection, model: Model) -> Model:
    warned: list[str] = []

    def show(found: Model) -> None:
        notes = training_notes(found.progress)
        # They may change while it trains, and the last ones are shown with the model.
        if notes and not warned:
            warned.extend(notes)
            warn(notes)
        _show(found, tell)

    try:
        with progress("training", "steps") as tell:
            return connection.client.models.wait(model.id, show)
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
    if "stage" not in told:
        return
    losses = [
        f"{name} {value:.4g}"
        for name, value in told.items()
        if isinstance(value, float) and name not in _PACE
    ]
    where = f"{told['stage']}, epoch {told['epoch']} of {told['epochs']}"
    tell(told["step"], told["steps"], "  ".join([where, *losses]))
