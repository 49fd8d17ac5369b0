"""Models: how they are trained, what they are, and pictures of what they have learnt."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BeforeValidator, Field

from datagen.durations import LONGEST_BUDGET, seconds_of
from datagen.schemas.base import Name, RealNumber, Request, Resource, Seed, State, WholeNumber


def _seconds(value: object) -> object:
    """Seconds of a text such as `1.5h`; anything else as it is."""
    found = seconds_of(value) if isinstance(value, str) else None
    return value if found is None else found


class TrainingOptionsIn(Request):
    """Options of a training; absent means the recommended value."""

    preset: Literal["small", "base", "large"] | None = None
    time_budget: Annotated[RealNumber, BeforeValidator(_seconds)] | None = Field(
        default=None,
        gt=0,
        le=LONGEST_BUDGET,
        allow_inf_nan=False,
        description="Seconds that the training may take, or 90s, 15m, 1.5h, with the measurements "
        "at its end. Sets the epochs.",
    )
    family: Literal["autoencoder", "vae", "cvae"] | None = None
    likelihood: Literal["bernoulli", "gaussian", "laplace", "discretized_logistic"] | None = None
    prior: Literal["standard", "normal", "learnt", "flow"] | None = Field(
        default=None,
        description="What the sampler `prior` draws from; what suits the images if absent.",
    )
    epochs: WholeNumber | None = Field(default=None, ge=1, le=10_000)
    refine_epochs: WholeNumber | None = Field(default=None, ge=0, le=10_000)
    judge_epochs: WholeNumber | None = Field(default=None, ge=1, le=10_000)
    latent_dim: WholeNumber | None = Field(default=None, ge=1, le=1024)
    width: WholeNumber | None = Field(default=None, ge=8, le=2048)
    batch_size: WholeNumber | None = Field(default=None, ge=2, le=65_536)
    learning_rate: RealNumber | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    patience: WholeNumber | None = Field(default=None, ge=0, le=10_000)
    average: RealNumber | None = Field(default=None, ge=0, lt=1, allow_inf_nan=False)
    balanced: bool | None = None
    augment: Literal["none", "affine"] | None = Field(
        default=None, description="Turn, scale, shear and shift images a little while training."
    )
    refine: bool | None = Field(
        default=None,
        description="True refines even where small classes or pictures speak against it; "
        "`refine_epochs` 0 refines nothing.",
    )
    refine_sampler: Literal["prior", "density", "neighbour"] | None = Field(
        default=None, description="What the refinement draws latents from."
    )
    beta: RealNumber | None = Field(default=None, ge=0, le=1000, allow_inf_nan=False)
    kl_schedule: Literal["constant", "linear", "cyclical"] | None = None
    kl_warmup: RealNumber | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    free_bits: RealNumber | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    label_dropout: RealNumber | None = Field(default=None, ge=0, lt=1, allow_inf_nan=False)
    no_kl: bool | None = None
    no_reconstruction: bool | None = None
    density: bool | None = None
    examples_per_class: WholeNumber | None = Field(default=None, ge=0, le=100_000)
    seed: Seed | None = None


class ModelCreate(Request):
    """A generator to be trained on a dataset."""

    name: Name
    dataset: str = Field(min_length=1, max_length=200, description="Name, name@version or id.")
    from_model: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Name, name@version or id of a trained model whose weights are the first ones: "
        "of images of the same shape, with any labels. Its sizes are kept.",
    )
    options: TrainingOptionsIn = TrainingOptionsIn()


Visibility = Literal["private", "public"]


class ModelChange(Request):
    """What of a model can be changed."""

    visibility: Visibility = Field(
        description="`public` lets every owner make images with it, but see none that it was "
        "trained on."
    )


class ModelRef(Resource):
    """A model, where something else names it."""

    id: UUID
    name: str
    version: int
    digest: str | None


class Model(Resource):
    """A trained generator, or one in training."""

    id: UUID
    name: str
    version: int
    state: State
    visibility: Visibility
    dataset: UUID | None
    class_names: list[str]
    image_shape: list[int]
    digest: str | None
    judge_digest: str | None
    index_digest: str | None = Field(
        default=None, description="Of what copies of training images are known by."
    )
    dataset_digest: str | None = Field(description="What it was trained on, whatever became of it.")
    parent: ModelRef | None = Field(
        default=None,
        description="The model that its training started from; absent where it started from "
        "nothing, or where that model is removed or not yours to see.",
    )
    parent_digest: str | None = Field(
        default=None, description="SHA-256 of that model's weights, whatever became of it."
    )
    options: dict[str, Any]
    config: dict[str, Any] = Field(description="The architecture that the options came to.")
    seconds: float = Field(description="That the training took, over all its slices.")
    device: str | None = Field(description="Kind of device that it ended on.")
    metrics: dict[str, Any]
    progress: dict[str, Any]
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class FiguresCreate(Request):
    """Pictures of what a model has learnt, to be drawn."""

    dataset: str | None = Field(
        default=None,
        max_length=200,
        description="Real images to show beside: name, name@version or id of a dataset of yours. "
        "By default what the model was trained on, if that is yours.",
    )


class Figures(Resource):
    """Pictures of what a model has learnt."""

    id: UUID
    model: UUID
    dataset: UUID | None
    state: State
    names: list[str] = Field(description="Each is there as `.png`, `.svg` and `.json`.")
    bytes: int | None
    digest: str | None = Field(description="SHA-256 of all of them as one archive.")
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
