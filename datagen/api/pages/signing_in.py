"""Signing in by a key or by a link, and out."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from urllib.parse import parse_qs

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from datagen.api.auth import Knowing
from datagen.api.backends import Wired
from datagen.api.pages.rendering import render
from datagen.api.sites import COOKIE, refuse_other_sites
from datagen.api.uploads import receive_json
from datagen.db.session import writing
from datagen.errors import Unauthorized
from datagen.service import sign_ins
from datagen.service.keys import Principal

router = APIRouter()
MOST_BYTES = 4096


@router.get("/sign-in")
async def sign_in_page(request: Request) -> Response:
    """The form."""
    wanted = _inner(request.query_params.get("next", "/"))
    return render(request, "sign-in.html", None, next=wanted, error=None)


@router.post("/sign-in")
async def sign_in(request: Request, backends: Wired, callers: Knowing) -> Response:
    """Begin a session by a key."""
    refuse_other_sites(request)
    form = parse_qs((await receive_json(request, MOST_BYTES)).decode(errors="replace"))
    wanted, key = _inner(_first(form, "next") or "/"), _first(form, "key").strip()
    try:
        principal = await callers.by_key(request, key)
    except Unauthorized as error:
        return render(
            request, "sign-in.html", None, HTTPStatus.UNAUTHORIZED, next=wanted, error=error.detail
        )
    return await _begun(request, backends, principal, wanted)


@router.get("/sign-in/{token}")
async def sign_in_by_link(token: str, request: Request, backends: Wired) -> Response:
    """Begin a session by a link that is good once."""

    def used() -> Principal:
        with writing(backends.engine) as session:
            return sign_ins.use_link(session, token)

    try:
        principal = await run_sync(used)
    except Unauthorized as error:
        return render(
            request, "sign-in.html", None, HTTPStatus.UNAUTHORIZED, next="/", error=error.detail
        )
    return await _begun(request, backends, principal, "/")


@router.post("/sign-out")
async def sign_out(request: Request, backends: Wired, callers: Knowing) -> Response:
    """End the session, and have the browser forget it."""
    refuse_other_sites(request)
    text = request.cookies.get(COOKIE)

    def end() -> None:
        with writing(backends.engine) as session, suppress(Unauthorized):
            sign_ins.end(session, text or "")

    if text is not None:
        await run_sync(end)
        callers.forget()
    answer = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
    return answer


async def _begun(request: Request, backends: Wired, principal: Principal, wanted: str) -> Response:
    def begun() -> str:
        with writing(backends.engine) as session:
            return sign_ins.begin(session, principal)[0]

    answer = RedirectResponse(wanted, HTTPStatus.SEE_OTHER)
    is_https = request.url.scheme == "https" or (backends.settings.url or "").startswith("https:")
    answer.set_cookie(
        COOKIE,
        await run_sync(begun),
        max_age=int(sign_ins.LASTS.total_seconds()),
        path="/",
        httponly=True,
        samesite="lax",
        secure=is_https,
    )
    return answer


def _inner(target: str) -> str:
    """A path of this server, whatever was asked for."""
    plain = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if plain and target.isprintable() else "/"


def _first(form: dict[str, list[str]], name: str) -> str:
    return form.get(name, [""])[0]
