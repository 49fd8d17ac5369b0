"""Models side by side: what they are, how they were trained, what they are worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.tables import Model
from datagen.errors import InvalidRequest
from datagen.service import sharing
from datagen.service.common import find_model

MOST_MODELS = 16
# Names as they are shown, where each stands, and which value of it is the better one.
_HIGHER, _LOWER = max, min
_Row = tuple[str, str, str, Callable[..., Any] | None]
_ROWS: tuple[_Row, ...] = (
    ("state", "column", "state", None),
    ("dataset", "column", "dataset_digest", None),
    ("trained_from", "column", "parent_digest", None),
    ("family", "config", "family", None),
    ("likelihood", "config", "likelihood", None),
    ("latent_dim", "config", "latent_dim", None),
    ("width", "config", "width", None),
    ("parameters", "metrics", "parameters", None),
    ("epochs", "options", "epochs", None),
    ("refine_epochs", "options", "refine_epochs", None),
    ("batch_size", "options", "batch_size", None),
    ("beta", "options", "beta", None),
    ("seed", "options", "seed", None),
    ("seconds", "column", "seconds", _LOWER),
    ("device", "column", "device", None),
    ("measured_on", "metrics", "measured_on", None),
    ("negative_elbo", "metrics", "negative_elbo", _LOWER),
    ("reconstruction", "metrics", "reconstruction", _LOWER),
    ("kl", "metrics", "kl", None),
    ("judge_test_accuracy", "metrics", "judge_test_accuracy", _HIGHER),
    ("judge_agreement", "metrics", "judge_agreement", _HIGHER),
    ("tstr", "metrics", "tstr", _HIGHER),
    ("coverage", "metrics", "coverage", _HIGHER),
    ("reconstruction_error", "metrics", "reconstruction_error", _LOWER),
    ("prior", "metrics", "prior", None),
    ("density_components", "metrics", "density_components", None),
)
# Of what another owner's model was trained on and from, nothing is shown.
_OWN = frozenset({"dataset", "trained_from"})
_BY_LIKELIHOOD = frozenset({"negative_elbo", "reconstruction"})


def compare(session: Session, owner_id: UUID, references: Sequence[str]) -> schemas.Comparison:
    """Several models, figure by figure.

    Where models differ in what a figure depends on, no value of it is called the best.

    Raises:
        InvalidRequest: fewer than two, or too many.
        NotFound: one of them is not there.
    """
    if not 2 <= len(references) <= MOST_MODELS:  # noqa: PLR2004 - one alone compares with nothing
        raise InvalidRequest(
            f"{len(references)} models were named; 2 to {MOST_MODELS} are compared.", field="model"
        )
    models = [find_model(session, owner_id, reference) for reference in references]
    hidden = [
        number
        for number, model in enumerate(models)
        if not sharing.names_dataset(session, model, owner_id)
    ]
    warnings, unlike = _warnings(models, hidden)
    return schemas.Comparison(
        models=[schemas.ModelRef.model_validate(model, from_attributes=True) for model in models],
        rows=[_row(models, row, unlike, hidden if row[0] in _OWN else ()) for row in _ROWS],
        warnings=warnings,
    )


def _warnings(models: Sequence[Model], hidden: Collection[int]) -> tuple[list[str], frozenset[str]]:
    """Why figures cannot be compared, and which."""
    warnings, unlike = [], frozenset[str]()
    if len({_value(model, "config", "likelihood") for model in models}) > 1:
        warnings.append(
            "The models have different likelihoods, so their bounds are on different scales."
        )
        unlike |= _BY_LIKELIHOOD
    # What is hidden counts as different: whether it is the same would say what it is.
    images = {
        number if number in hidden else row.dataset_digest for number, row in enumerate(models)
    }
    if len(images) > 1:
        warnings.append(
            "The models were trained, and measured, on different images, so their figures are of "
            "different tasks."
        )
        unlike |= {name for name, place, _, _ in _ROWS if place == "metrics"}
    return warnings, unlike


def _value(model: Model, place: str, key: str) -> Any:
    if place == "column":
        value = getattr(model, key)
        # No seconds were kept of what was trained elsewhere.
        return (round(value, 1) or None) if isinstance(value, float) else value
    found: dict[str, Any] = getattr(model, place) or {}
    return found.get(key)


def _row(
    models: Sequence[Model], row: _Row, unlike: frozenset[str], hidden: Sequence[int]
) -> schemas.ComparedRow:
    name, place, key, better = row
    values = [
        None if number in hidden else _value(model, place, key)
        for number, model in enumerate(models)
    ]
    known = [value for value in values if _is_number(value)]
    best: list[int] = []
    if better is not None and name not in unlike and len(known) > 1 and len(set(known)) > 1:
        best = [number for number, value in enumerate(values) if value == better(known)]
    differs = any(value != values[0] for value in values)
    return schemas.ComparedRow(name=name, values=values, differs=differs, best=best)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
