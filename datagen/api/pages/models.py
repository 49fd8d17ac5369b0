"""Models: the list and comparisons, and one with its training, its pictures and its latents."""

from __future__ import annotations

from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response

from datagen.api.backends import Wired
from datagen.api.pages.rendering import render
from datagen.api.pages.viewers import Viewer
from datagen.db.session import reading
from datagen.model_quality import quality_rows, training_notes
from datagen.schemas import Model
from datagen.service import comparing, datasets, learnt, models

router = APIRouter()
ON_A_PAGE, CHOICES = 50, 200


@router.get("/models")
async def list_models(
    request: Request,
    viewer: Viewer,
    backends: Wired,
    *,
    compare: Annotated[list[str] | None, Query(max_length=20)] = None,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> Response:
    """The list, newest first, and those that are ticked side by side."""

    def read() -> dict[str, Any]:
        with reading(backends.engine) as session:
            page = models.list_models(session, viewer.owner_id, limit=ON_A_PAGE, cursor=cursor)
            beside = comparing.compare(session, viewer.owner_id, compare) if compare else None
            own = datasets.list_datasets(session, viewer.owner_id, limit=CHOICES)
            known = models.list_models(session, viewer.owner_id, limit=CHOICES)
        trained = [model for model in known.items if model.state == "succeeded"]
        return {"page": page, "beside": beside, "datasets": own.items, "trained": trained}

    return render(request, "models.html", viewer, compared=compare or [], **await run_sync(read))


@router.get("/models/{reference}")
async def show_model(reference: str, request: Request, viewer: Viewer, backends: Wired) -> Response:
    """A model, with the labels that it has learnt, and sentences on what its user should know."""

    def read() -> tuple[Model, list[str], list[str]]:
        with reading(backends.engine) as session:
            model = models.read(session, viewer.owner_id, reference)
            labels, notes = learnt.labels_of(session, model.id)
        # While it is trained, nothing is learnt yet.
        left_out = notes if model.state == "succeeded" else []
        return model, labels, left_out + training_notes(model.metrics or model.progress)

    model, labels, notes = await run_sync(read)
    quality = quality_rows(model.metrics)
    return render(
        request, "model.html", viewer, model=model, labels=labels, notes=notes, quality=quality
    )
