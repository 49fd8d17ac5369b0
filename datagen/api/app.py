"""The application: routes, guards and error answers put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from anyio.to_thread import run_sync
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import Scope

import datagen
from datagen.api.asking import Asking
from datagen.api.auth import Callers
from datagen.api.backends import Backends
from datagen.api.conditional import Conditional
from datagen.api.documentation import install_documentation
from datagen.api.errors import install_error_answers
from datagen.api.events import Events
from datagen.api.guards import BodyLimit, HostGuard, RequestLog, TextGuard
from datagen.api.lookups import Lookups
from datagen.api.metrics import Metrics
from datagen.api.openapi import install_openapi, operation_id
from datagen.api.pages import pages_app
from datagen.api.preparation import prepare
from datagen.api.rates import Rates
from datagen.api.readiness import Looks
from datagen.api.reading import Readings
from datagen.api.replays import Replays
from datagen.api.routes import (
    datasets,
    events,
    exports,
    figures,
    formats,
    health,
    jobs,
    keys,
    metrics,
    models,
    pipelines,
    previews,
    reports,
    runs,
    webhooks,
)
from datagen.api.sweeping import sweeping
from datagen.api.uploads import is_json
from datagen.client.address import is_loopback
from datagen.queue import Queue
from datagen.settings import Settings

UPLOAD_PATHS = frozenset({"/v1/datasets", "/v1/models/import"})


def create_app(
    settings: Settings, *, host: str = "127.0.0.1", queue: Queue | None = None
) -> FastAPI:
    """The API as an ASGI application; its start-up checks the schema and needs the database.

    Args:
        settings: where database, storage and broker are.
        host: the address that the server is bound to. On loopback, requests for other host names
            than this machine's and the one in `DATAGEN_URL` are refused.
        queue: where messages go; Celery on the broker of the settings if None.

    Raises:
        InvalidRequest: the URL of the database or the storage cannot be used.
    """
    backends = Backends(settings, queue)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await run_sync(prepare, backends)
        try:
            async with sweeping(settings):
                yield
        finally:
            await app.state.events.close()
            await app.state.asking.close()
            backends.close()

    app = FastAPI(
        title="datagen",
        version=datagen.__version__,
        lifespan=lifespan,
        generate_unique_id_function=operation_id,
        redirect_slashes=False,
        # Ours have their scripts from here, and not from a network that may not be there.
        docs_url=None,
        redoc_url=None,
    )
    app.state.backends = backends
    app.state.rates = Rates(settings)
    app.state.callers = Callers(backends, app.state.rates)
    app.state.replays = Replays(backends)
    app.state.looks = Looks()
    app.state.asking = Asking(backends)
    app.state.events = Events(backends)
    app.state.metrics = Metrics(backends)
    app.state.readings = Readings(settings)
    app.state.lookups = Lookups()
    install_error_answers(app)
    install_openapi(app)
    rooms = (
        jobs, events, exports, datasets, models, previews, figures, reports, formats, keys, metrics,
        pipelines, runs, webhooks, health,
    )  # fmt: skip
    for room in rooms:
        app.include_router(room.router)
    app.include_router(keys.me_router)
    app.include_router(pipelines.schema_router)
    install_documentation(app)
    # Whatever no route above takes.
    app.mount("/", pages_app(app.state))
    # The last one added is the first that a request meets.
    app.add_middleware(Conditional)
    app.add_middleware(TextGuard)
    app.add_middleware(BodyLimit, limit_of=_body_limits(settings))
    if is_loopback(host):
        app.add_middleware(HostGuard, extra_hosts=_named_hosts(settings))
    app.add_middleware(RequestLog, requests=app.state.metrics.requests)
    return app


def _body_limits(settings: Settings) -> Callable[[Scope], int]:
    def limit_of(scope: Scope) -> int:
        # A file goes to disk piece by piece; JSON is held, wherever it is sent to.
        file = scope["path"] in UPLOAD_PATHS and not is_json(Headers(scope=scope))
        return settings.max_upload_bytes if file else settings.max_body_bytes

    return limit_of


def _named_hosts(settings: Settings) -> frozenset[str]:
    # A proxy on this machine passes the public name on, which DATAGEN_URL then holds.
    name = urlsplit(settings.url).hostname if settings.url else None
    return frozenset({name} if name else ())
