"""Recommendations: how images of a model are drawn where a request leaves that to the model.

A training writes down what it found best (`metrics["recommended"]`). Models of an earlier version
say nothing; images of those are drawn from the prior, and none is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple, get_args
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy.orm import Session

from datagen.db.tables import Model
from datagen.errors import DatagenError, Forbidden, InvalidRequest
from datagen.schemas import STARTING_FROM_IMAGES, Gate, Recommended, Sampler


class Defaults(NamedTuple):
    """What a job of one owner is drawn with where the request leaves it to the model.

    Attributes:
        why: why the sampler `recommended` is the one that it is, in a sentence.
        gates: by sampler, `recommended` among them, as JSON; None where every image is taken.
        gates_at_0: the same at temperature 0.
        strength: of the sampler `neighbour`; None where the model recommends none.
    """

    why: str
    gates: Mapping[str, Any]
    gates_at_0: Mapping[str, Any]
    strength: float | None


def defaults_of(session: Session, owner_id: UUID, model_id: UUID) -> Defaults:
    """What jobs of a trained model that the owner may use are drawn with."""
    model = session.get_one(Model, model_id)
    samplers = {name: name for name in get_args(Sampler)}
    samplers["recommended"] = sampler_of(model, owner_id)

    def gates(temperature: float) -> dict[str, Any]:
        found = {name: gate_of(model, sampler, temperature) for name, sampler in samplers.items()}
        return {name: gate and gate.model_dump(mode="json") for name, gate in found.items()}

    return Defaults(_why(model), gates(1.0), gates(0.0), strength_of(model, "neighbour"))


def _why(model: Model) -> str:
    if not _recommended(model).samplers:
        return "From the model's own idea of the label: its training recommends no sampler."
    if not model.metrics.get("tstr_by_sampler"):
        return "What usually teaches classifiers best: the model's training compared no samplers."
    return (
        "Of the samplers that you may use, one whose images taught classifiers as much as those of "
        "any other when the model was trained."
    )


def sampler_of(model: Model, owner_id: UUID, *, labelled: bool = True) -> str:
    """The first of the recommended samplers that the owner may use with the model.

    Args:
        model: a trained one.
        owner_id: who asks.
        labelled: whether images of labels are wanted; else what starts from images of a label
            cannot be used. Of a model that knows no labels nothing else can be used for them.
    """
    samplers = list(_recommended(model).samplers)
    family = (model.config or model.options).get("family", "cvae")
    if not labelled:
        samplers = [sampler for sampler in samplers if sampler not in STARTING_FROM_IMAGES]
    elif family != "cvae":
        near = [sampler for sampler in samplers if sampler in STARTING_FROM_IMAGES]
        samplers = near or ["neighbour", "interpolate"]
    for sampler in samplers:
        with suppress(DatagenError):
            refuse_unfit_sampler(owner_id, sampler, model)
            return sampler
    return "prior"


def strength_of(model: Model, sampler: str) -> float | None:
    """How far the sampler goes from real images where a request leaves that to the model."""
    return _recommended(model).strength if sampler == "neighbour" else None


def gate_of(model: Model, sampler: str, temperature: float) -> Gate | None:
    """The gate that is recommended for a sampler, as far as the model keeps what it takes.

    None at temperature 0 where every image is the likeliest one and the same again and again.
    Samplers that start from real images still make different images then, which may be copies.
    """
    gate = _recommended(model).gate_of(sampler)
    if gate is None or (temperature == 0 and sampler not in STARTING_FROM_IMAGES):
        return None
    return gate.model_copy(
        update={"reject_copies": gate.reject_copies and model.index_key is not None}
    )


def refuse_unfit_sampler(owner_id: UUID, sampler: str, model: Model) -> None:
    """Refuse a sampler that the model, or the owner, has nothing for.

    Raises:
        InvalidRequest: the model keeps nothing for it.
        Forbidden: it starts from another owner's images.
    """
    name = f"The model {model.name!r}"
    if sampler == "density" and not model.metrics.get("density_components"):
        raise InvalidRequest(
            f"{name} keeps no density of its posterior samples; use the sampler 'prior'.",
            field="sampler",
        )
    if sampler in STARTING_FROM_IMAGES:
        if model.owner_id != owner_id:
            # A public model shares what it makes, not the images that it was trained on.
            raise Forbidden(
                f"{name} belongs to another owner, whose images the sampler {sampler!r} would "
                "start from; use 'prior' or 'density'."
            )
        if model.examples_key is None:
            raise InvalidRequest(
                f"{name} keeps no real examples; use the sampler 'prior' or 'density'.",
                field="sampler",
            )


def _recommended(model: Model) -> Recommended:
    try:
        return Recommended.model_validate(model.metrics.get("recommended") or {})
    except ValidationError:
        # From a file that somebody else wrote.
        return Recommended()
