"""Models: train and read."""

from __future__ import annotations

from fastapi import APIRouter, Response

from datagen.api.auth import Reader, Writer
from datagen.api.backends import Wired
from datagen.api.openapi import problems
from datagen.api.routes.jobs import Cursor, Limit
from datagen.db.session import reading, writing
from datagen.schemas import Model, ModelCreate, Page
from datagen.service import models

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.post("", status_code=202, summary="Train a model", responses=problems(404, 409, 413))
def create_model(wanted: ModelCreate, answer: Response, backends: Wired, asker: Writer) -> Model:
    """Train a generator and its judge on a dataset; the next version of the name."""
    with writing(backends.engine) as session:
        model, messages = models.create(session, backends.settings, asker.owner_id, wanted)
    backends.send(messages)
    answer.headers["Location"] = f"{router.prefix}/{model.id}"
    return model


@router.get("", summary="List models, newest first", responses=problems())
def list_models(
    backends: Wired, asker: Reader, limit: Limit = 50, cursor: Cursor = None
) -> Page[Model]:
    """Your own and the public models, in pages."""
    with reading(backends.engine) as session:
        return models.list_models(session, asker.owner_id, limit=limit, cursor=cursor)


@router.get("/{reference}", summary="Read a model", responses=problems(404))
def read_model(reference: str, backends: Wired, asker: Reader) -> Model:
    """A model by name (its latest version), name@version or id."""
    with reading(backends.engine) as session:
        return models.read(session, asker.owner_id, reference)


@router.post("/{reference}/cancel", summary="Cancel a training", responses=problems(404, 409))
def cancel_model(reference: str, backends: Wired, asker: Writer) -> Model:
    """Stop a training that has not ended."""
    with writing(backends.engine) as session:
        found = models.read(session, asker.owner_id, reference)
        return models.cancel(session, asker.owner_id, found.id)
