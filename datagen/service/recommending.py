"""Recommendations: how images of a model are drawn where a request leaves that to the model.

A training writes down what it found best (`metrics["recommended"]`). Models of an earlier version
say nothing; images of those are drawn from the prior, and none is refused.
"""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from pydantic import ValidationError

from datagen.db.tables import Model
from datagen.errors import DatagenError, Forbidden, InvalidRequest
from datagen.schemas import STARTING_FROM_IMAGES, Gate, Recommended


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
    recommended = _recommended(model)
    gate = next(
        (own for name, own in recommended.gates.items() if name == sampler), recommended.gate
    )
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
