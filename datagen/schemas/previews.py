"""Previews: a few images at once, of which nothing is kept."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, computed_field, model_validator

from datagen.schemas.base import (
    MAX_TEMPERATURE,
    MAX_TRUNCATION,
    SEED_TEXT,
    RealNumber,
    Request,
    Resource,
    Sampler,
    Seed,
    Strength,
)
from datagen.schemas.jobs import Gate
from datagen.schemas.models import ModelRef

MOST_PREVIEWED = 64
MAX_LATENT = 100.0

Few = Annotated[int, Field(ge=1, le=MOST_PREVIEWED, strict=True)]
Number = Annotated[RealNumber, Field(ge=-MAX_LATENT, le=MAX_LATENT, allow_inf_nan=False)]
Shape = Literal["json", "sheet"]


class Pictured(Request):
    """In which form images come."""

    format: Shape = Field(
        default="json", description="A list with each image's PNG, or one PNG with a row a label."
    )
    scale: int = Field(
        default=2, ge=1, le=8, strict=True, description="How far a sheet enlarges its images."
    )


class PreviewCreate(Pictured):
    """A request for a few images at once."""

    labels: dict[str, Few] | None = Field(
        default=None,
        max_length=MOST_PREVIEWED,
        description="So many of each, by the label's name or index.",
        examples=[{"3": 8, "8": 8}],
    )
    all: Few | None = Field(default=None, description="This many of every label that is learnt.")
    count: Few | None = Field(
        default=None,
        description="This many of a model that knows no labels; the judge then gives them.",
    )
    seed: Seed = Field(default=0, description="A job with this seed begins with the same images.")
    temperature: RealNumber = Field(default=1.0, ge=0.0, le=MAX_TEMPERATURE, allow_inf_nan=False)
    sampler: Sampler | Literal["recommended"] = "recommended"
    truncation: RealNumber | None = Field(
        default=None, gt=0.0, le=MAX_TRUNCATION, allow_inf_nan=False
    )
    strength: Strength | None = None
    gate: Gate | None = Field(
        default=None,
        description="As for a job, but that images which do not pass are left out; null by "
        "default, so that one sees what the model does by itself.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(way is not None for way in (self.labels, self.all, self.count)) != 1:
            raise ValueError("give one of 'labels', 'all' and 'count'")
        if self.labels is not None and not self.labels:
            raise ValueError("'labels' is empty; ask for at least one image")
        return self


class DecodeCreate(Pictured):
    """A request for the images of given latents, or of places along the principal directions."""

    latents: list[list[Number]] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_PREVIEWED,
        description="A list of numbers for each image, as many as the model has latent dimensions.",
        examples=[[[0.0] * 4]],
    )
    coordinates: list[list[Number]] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_PREVIEWED,
        description="Instead of latents: for each image, standard deviations from the label's "
        "mean latent along the directions in which latents differ most, the first of them first; "
        "0 along those that are left out.",
    )
    labels: list[str] | None = Field(
        default=None,
        max_length=MOST_PREVIEWED,
        description="The label of each, by name or index; none for a model that knows no labels.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.latents is None) == (self.coordinates is None):
            raise ValueError("give one of 'latents' and 'coordinates'")
        return self


class PreviewImage(Resource):
    """One image of a preview."""

    label: str
    score: float = Field(description="The judge's probability of the label.")
    judged_label: str
    png: str = Field(description="The PNG file in Base64.")


class Preview(Resource):
    """A few images, made for this answer alone."""

    model: ModelRef
    sampler: str | None = Field(description="Null where latents were given.")
    seed: int | None
    images: list[PreviewImage]
    notes: list[str] = Field(
        default_factory=list,
        description="What was left out: classes that the model has not learnt.",
    )

    @computed_field(description=SEED_TEXT)  # type: ignore[prop-decorator]
    @property
    def seed_text(self) -> str | None:
        """The seed in digits."""
        return None if self.seed is None else str(self.seed)


class PreviewWork(Request):
    """What a worker is told: nothing of it is looked up, but for the model.

    Attributes:
        owner_id: who asked.
        reply_to: where in the broker the answer is put.
        latents, coordinates: as of `DecodeCreate`; neither where latents are drawn.
        drawn: `seed` and what follows it, where latents are drawn.
    """

    model_id: UUID
    owner_id: UUID
    reply_to: str = Field(pattern=r"^datagen:answer:[0-9a-f]{32}$")
    labels: list[Annotated[int, Field(ge=-1)]] = Field(max_length=MOST_PREVIEWED)
    latents: list[list[Number]] | None = Field(default=None, max_length=MOST_PREVIEWED)
    coordinates: list[list[Number]] | None = Field(default=None, max_length=MOST_PREVIEWED)
    seed: Seed = 0
    sampler: Sampler = "prior"
    temperature: RealNumber = Field(default=1.0, ge=0.0, le=MAX_TEMPERATURE, allow_inf_nan=False)
    truncation: RealNumber | None = Field(
        default=None, gt=0.0, le=MAX_TRUNCATION, allow_inf_nan=False
    )
    strength: Strength | None = None
    gate: Gate | None = None


class Made(Resource):
    """What the worker answers: images by column, or why there are none."""

    labels: list[int] = Field(default_factory=list)
    scores: list[float] = Field(default_factory=list)
    judged_labels: list[int] = Field(default_factory=list)
    pngs: list[str] = Field(default_factory=list)
    error: str | None = None
