"""What stands before every route: request id and log line, allowed hosts, the limit of a body."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from urllib.parse import unquote, unquote_to_bytes, urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from datagen.api.errors import internal_problem, problem_response
from datagen.api.logs import log
from datagen.api.metrics import Requests
from datagen.client.address import is_loopback
from datagen.errors import InvalidRequest, MalformedRequest
from datagen.texts import unfit_character, why_unfit

_REQUEST_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")
_QUIET = frozenset({"/healthz", "/readyz"})


class RequestLog:
    """Gives every request an id, counts it, writes a line about it, and lets no exception out."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app, self._requests = app, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        began, status = time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers.update(scope.get("state", {}).get("rate", {}))
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            log.info("client went away", method=scope["method"], path=scope["path"])
        except Exception:  # noqa: BLE001 - whatever it is, the client gets a problem, the log all
            log.exception("unexpected error", method=scope["method"], path=scope["path"])
            if status == 0:
                await internal_problem()(scope, receive, send_with_id)
        seconds = round(time.perf_counter() - began, 4)
        route = getattr(scope.get("route"), "path", "none")
        self._requests.count(scope["method"], route, status, seconds)
        write = log.debug if scope["path"] in _QUIET else log.info
        write("request", method=scope["method"], path=scope["path"], status=status, seconds=seconds)


class HostGuard:
    """Refuses requests whose `Host` is none of ours.

    A page on the internet can point its own name at 127.0.0.1 and so reach a server that listens
    there alone (DNS rebinding); its requests carry its name as `Host`.
    """

    def __init__(self, app: ASGIApp, extra_hosts: frozenset[str]) -> None:
        self._app = app
        self._extra_hosts = extra_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or answer 400."""
        if scope["type"] == "http":
            given = Headers(scope=scope).get("host", "")
            if not self._is_ours(given):
                error = MalformedRequest(
                    f"The Host {given[:100]!r} is none of this server's; use 127.0.0.1, localhost "
                    "or the name in DATAGEN_URL."
                )
                await problem_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_ours(self, given: str) -> bool:
        try:
            host = urlsplit(f"//{given}").hostname or ""
        except ValueError:
            return False
        return is_loopback(host) or host in self._extra_hosts


class TextGuard:
    """Refuses queries whose text nobody could keep: what is no UTF-8, and U+0000.

    Bodies are looked at by their schemas, and of a path in which such text stands there is nothing.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and (error := _unfit_query(scope["query_string"])) is not None:
            await problem_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _unfit_query(query: bytes) -> InvalidRequest | None:
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        field = unquote(name.decode("latin-1"), errors="replace")
        for part in (name, value):
            try:
                found = unfit_character(unquote_to_bytes(part).decode())
            except UnicodeDecodeError:
                return InvalidRequest(
                    f"{field[:60]!r} in the query is no UTF-8; encode it as UTF-8.", field=field
                )
            if found is not None:
                return InvalidRequest(
                    f"{field[:60]!r} in the query holds {why_unfit(found)}.", field=field
                )
    return None


class BodyLimit:
    """Counts a body while it streams in, and stops it with 413 where it passes the limit."""

    def __init__(self, app: ASGIApp, limit_of: Callable[[Scope], int]) -> None:
        self._app = app
        self._limit_of = limit_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request with a limited `receive`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit, seen = self._limit_of(scope), 0
        announced = Headers(scope=scope).get("content-length", "0")
        too_large = HTTPException(413, f"The body has more than {limit:,} bytes; send less.")

        async def limited() -> Message:
            nonlocal seen
            if announced.isdigit() and int(announced) > limit:
                raise too_large
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise too_large
            return message

        await self._app(scope, limited, send)
