"""Rendering: templates, what stands in every page, the files beside them, errors as pages."""

from __future__ import annotations

import hashlib
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import datagen
from datagen.api.errors import invalid_request, problem_response, unforeseen
from datagen.api.logs import log, redacted
from datagen.errors import DatagenError, NotFound, Unauthorized, Unavailable
from datagen.service.keys import SCOPES, Principal

ROOM = Path(__file__).parents[1]
STATIC = ROOM / "static"
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
# A browser may keep what it was given under a digest; all else is looked up again.
NONE = "\N{EN DASH}"
FOR_EVER = "public, max-age=31536000, immutable"


class Policy:
    """Sets the headers by which browsers hold a page to what it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["Referrer-Policy"] = "same-origin"
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self._app(scope, receive, send_with_policy)


class Static(StaticFiles):
    """The files beside the templates."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """A file, to be kept for ever where its digest was asked for."""
        answer = super().file_response(*args, **kwargs)
        scope: Scope = args[2] if len(args) > 2 else kwargs["scope"]  # noqa: PLR2004 - its place there
        answer.headers["Cache-Control"] = FOR_EVER if scope["query_string"] else "no-cache"
        return answer


@cache
def _digest(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def asset(name: str) -> str:
    """The address of a static file, which changes with its content."""
    return f"/static/{name}?{_digest(name)}"


def number(value: float | None) -> str:
    """A whole number with separators; a dash for none."""
    return NONE if value is None else f"{value:,.0f}"


def size(count: float | None) -> str:
    """Bytes as people say them."""
    if count is None:
        return NONE
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004 - as their names say
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def share(value: float | None) -> str:
    """A share in percent; a dash for none."""
    return NONE if value is None else f"{value:.1%}"


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(ROOM / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number, "size": size, "share": share, "path": _part}
    made.globals |= {"asset": asset, "version": datagen.__version__}
    return made


def _part(text: object) -> str:
    """One part of a path."""
    return quote(str(text), safe="@")


def render(
    request: Request,
    template: str,
    viewer: Principal | None,
    status: int = HTTPStatus.OK,
    **data: Any,
) -> HTMLResponse:
    """A page."""
    reaches = -1 if viewer is None else max(map(SCOPES.index, viewer.scopes), default=-1)
    page = (
        _templates()
        .get_template(template)
        .render(
            **data,
            viewer=viewer,
            here=request.url.path,
            # With the page of a list that is looked at: what is refreshed is that one.
            address=_address(request),
            may_write=reaches >= SCOPES.index("write"),
            is_admin=reaches >= SCOPES.index("admin"),
        )
    )
    return HTMLResponse(page, status_code=status, headers={"Cache-Control": "no-store"})


def install_error_pages(app: FastAPI) -> None:
    """Say every error as a page; whoever is not signed in is asked to."""
    app.add_exception_handler(DatagenError, _datagen)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    for kind in (OperationalError, InterfaceError, DataError):
        app.add_exception_handler(kind, _database)
    app.add_exception_handler(Exception, _unforeseen)


def _address(request: Request) -> str:
    """Path and query of what was asked for."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


async def _datagen(request: Request, error: Exception) -> Response:
    assert isinstance(error, DatagenError)  # noqa: S101 - narrows the framework's wide type
    return _error_answer(request, error)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    return _error_answer(request, invalid_request(error.errors()))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    if error.status_code == HTTPStatus.NOT_FOUND:
        return _error_answer(request, NotFound(f"There is nothing at {request.url.path[:200]}."))
    return Response(HTTPStatus(error.status_code).phrase, error.status_code, error.headers)


async def _database(request: Request, error: Exception) -> Response:
    log.error("database", error=type(error).__name__, detail=str(getattr(error, "orig", error)))
    return _error_answer(
        request, Unavailable("The database does not answer; try again in a moment.")
    )


async def _unforeseen(request: Request, _: Exception) -> Response:
    # The log of requests holds it.
    return _error_answer(request, unforeseen())


def _error_answer(request: Request, error: DatagenError) -> Response:
    wants_page = "text/html" in request.headers.get("accept", "")
    if request.url.path.startswith("/v1/") or not wants_page:
        # Whoever asks for no page gets no page: a program, or a script of ours.
        return problem_response(error)
    if isinstance(error, Unauthorized):
        return RedirectResponse(f"/sign-in?next={quote(_address(request))}", HTTPStatus.SEE_OTHER)
    viewer = getattr(request.state, "viewer", None)
    return render(
        request,
        "error.html",
        viewer,
        error.status,
        title=error.title,
        detail=redacted(error.detail),
    )
