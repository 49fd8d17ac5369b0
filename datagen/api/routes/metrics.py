"""Metrics for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from datagen.api.auth import ADMINS_ALONE, ScopedRoute
from datagen.api.openapi import problems

router = APIRouter(tags=["service"], route_class=ScopedRoute, dependencies=[ADMINS_ALONE])


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        **problems(),
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "All."},
    },
)
def read_metrics(request: Request) -> Response:
    """Jobs by state, images by model, queue depth, batch seconds, gate rejections, HTTP.

    For administrators, since it counts everybody's: have Prometheus send a key of that scope.
    """
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_LATEST)
