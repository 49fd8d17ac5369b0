"""The web page: one file a kind of thing; a page parses, calls a service, and renders a template.

Pages change nothing: their scripts ask the API under /v1, with the session's cookie, as any other
program does. What a page says of an error is HTML, and its policy lets it load from here alone.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.datastructures import State

from datagen.api.pages import (
    about,
    datasets,
    jobs,
    keys,
    models,
    overview,
    pipelines,
    samples,
    signing_in,
)
from datagen.api.pages.rendering import Policy, Static, install_error_pages


def pages_app(state: State) -> FastAPI:
    """The pages as an application of their own, which shares the state of the API's."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state = state
    install_error_pages(app)
    for room in (signing_in, overview, jobs, samples, datasets, models, pipelines, keys, about):
        app.include_router(room.router)
    app.mount("/static", Static())
    app.add_middleware(Policy)
    return app
