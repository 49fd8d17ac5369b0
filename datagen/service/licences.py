"""Licences: what an export's images may be used under, if nobody says it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from datagen import bundled
from datagen.db.tables import Dataset, Model, Owner
from datagen.service.sharing import BUNDLED_OWNER


def licence_of(session: Session, dataset: Dataset | None, models: Sequence[Model]) -> str | None:
    """The licence of the dataset and of those that the models learnt from, if it is one."""
    found = [] if dataset is None else [dataset.license]
    found += [_of_model(session, model) for model in models]
    return found[0] if found and len(set(found)) == 1 else None


def _of_model(session: Session, model: Model) -> str | None:
    if model.dataset_id is not None:
        return session.get_one(Dataset, model.dataset_id).license
    owner = session.get_one(Owner, model.owner_id)
    if owner.name == BUNDLED_OWNER and model.name == bundled.MODEL.stem:
        return bundled.LICENSE
    return None
