"""`Idempotency-Key`: a POST that comes again is answered as it was the first time.

An answer belongs to one key or session, and to one request: method, path, query, type and bytes of
the body, and the scope that the route needs. The body is hashed while the route reads it, so that
an upload of any size is compared without being held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from anyio.to_thread import run_sync
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from datagen.api.backends import Backends
from datagen.api.errors import problem_response
from datagen.api.logs import log
from datagen.db.session import writing
from datagen.errors import Conflict, DatagenError
from datagen.schemas import SHOWN_ONCE
from datagen.service import replays
from datagen.service.keys import Principal
from datagen.service.replays import Answer, Stored

HEADER = "idempotency-key"
REPLAYED = (b"idempotency-replayed", b"true")
# Statuses that say nothing of the request itself: it was not done, and may be done later.
_NOT_DONE = frozenset({401, 403, 408, 413, 429})
_ERRORS, _SERVER_ERRORS = 400, 500
# Answers are small; whatever is not, is not stored.
LARGEST_ANSWER = 1 << 20
# Of a body that a route has refused without reading it, no more than this is read.
MOST_READ_AFTER_REFUSAL = 1 << 16
_STORED_HEADERS = ("content-type", "location")

App = Callable[[Scope, Receive, Send], Awaitable[None]]


def shows_secret(model: Any) -> bool:
    """Whether answers of this type hold something that is shown once, and so never stored."""
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return False
    extras = [field.json_schema_extra for field in model.model_fields.values()]
    return any(isinstance(extra, dict) and extra.get(SHOWN_ONCE) for extra in extras)


@dataclass(frozen=True)
class IdempotentRequest:
    """A request that is to be done once.

    Attributes:
        caller: the key or the session that sends it.
        key: its `Idempotency-Key`.
        head: a hash of all that makes it the same request, the body aside.
        secret: whether its answer is never to be stored.
    """

    caller: str
    key: str
    head: bytes
    secret: bool


def identify(
    asker: Principal, scope: str, key: str, request: Request, *, secret: bool
) -> IdempotentRequest:
    """What makes a request the same as another one.

    Args:
        asker: who sends it.
        scope: that its route needs.
        key: its `Idempotency-Key`.
        request: the request, of which the body is not read.
        secret: whether its answer is never to be stored.
    """
    parts = (
        request.method,
        request.url.path,
        request.url.query,
        request.headers.get("content-type", ""),
        scope,
    )
    head = hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).digest()
    return IdempotentRequest(asker.caller, key, head, secret)


class _HashedBody:
    """The body of a request, hashed while somebody reads it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._hash = hashlib.sha256()
        self.whole = False

    @property
    def digest(self) -> bytes:
        return self._hash.digest()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._hash.update(message.get("body", b""))
            self.whole = self.whole or not message.get("more_body", False)
        return message

    async def read(self, most: int | None = None) -> None:
        """Read what nobody has read yet, or so many bytes of it. Raises ClientDisconnect."""
        count = 0
        while not self.whole and (most is None or count < most):
            message = await self.receive()
            if message["type"] != "http.request":
                raise ClientDisconnect
            count += len(message.get("body", b""))


class Replays:
    """Does a POST with an `Idempotency-Key` once, and answers repeats as the first one."""

    def __init__(self, backends: Backends) -> None:
        """Answers are stored in the database of these backends."""
        self._backends = backends

    async def serve(
        self, request: IdempotentRequest, app: App, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Have `app` do a request that is new, or answer one that comes again."""
        body = _HashedBody(receive)
        try:
            begun = await run_sync(self._begin, request)
            if isinstance(begun, Stored):
                await body.read()
                replays.refuse_other(request.key, begun, body.digest)
        except DatagenError as error:
            await problem_response(error)(scope, receive, send)
            return
        if isinstance(begun, Stored):
            await _answer_again(begun.answer, scope, receive, send)
        else:
            await self._do(_Exchange(request, begun, body), app, scope, send)

    def _begin(self, request: IdempotentRequest) -> Stored | datetime:
        with writing(self._backends.engine) as session:
            return replays.begin(session, request.caller, request.key, request.head)

    async def _do(self, exchange: _Exchange, app: App, scope: Scope, send: Send) -> None:
        answer, body = exchange.answer, exchange.body

        async def recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.start(message)
                refused = answer.status >= _ERRORS
                # Beyond the limit of a body, or gone: then it is not whole, and nothing is stored.
                with suppress(HTTPException, ClientDisconnect):
                    await body.read(MOST_READ_AFTER_REFUSAL if refused else None)
            elif message["type"] == "http.response.body":
                answer.add(message.get("body", b""))
                if not message.get("more_body"):
                    # Before the last byte goes: whoever has the answer finds it stored.
                    await run_sync(self._end, exchange)
                    answer.ended = True
            await send(message)

        try:
            await app(scope, body.receive, recorded)
        finally:
            if not answer.ended:
                await run_sync(self._forget, exchange)

    def _end(self, exchange: _Exchange) -> None:
        request, body, answer = exchange.request, exchange.body, exchange.answer
        done = answer.status < _SERVER_ERRORS and answer.status not in _NOT_DONE
        with writing(self._backends.engine) as session:
            # What was refused unread cannot be compared with what comes again.
            if done and body.whole:
                stored = answer.stored(hidden=request.secret and answer.status < _ERRORS)
                replays.finish(
                    session, request.caller, request.key, exchange.began, body.digest, stored
                )
            else:
                replays.forget(session, request.caller, request.key, exchange.began)

    def _forget(self, exchange: _Exchange) -> None:
        request = exchange.request
        log.warning("a request with an Idempotency-Key was not answered", key=request.key[:40])
        with writing(self._backends.engine) as session:
            replays.forget(session, request.caller, request.key, exchange.began)


class _RecordedAnswer:
    """An answer on its way to the client."""

    def __init__(self) -> None:
        self.status = 0
        self.ended = False
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._large = False

    def start(self, message: Message) -> None:
        self.status = message["status"]
        found = Headers(raw=message["headers"])
        self._headers = {name: found[name] for name in _STORED_HEADERS if name in found}

    def add(self, part: bytes) -> None:
        self._large = self._large or len(self._body) + len(part) > LARGEST_ANSWER
        if not self._large:
            self._body.extend(part)

    def stored(self, *, hidden: bool) -> Answer:
        body = None if hidden or self._large else bytes(self._body)
        return Answer(self.status, self._headers, body)


@dataclass(frozen=True)
class _Exchange:
    """A request that is being done: when it began, its body and its answer."""

    request: IdempotentRequest
    began: datetime
    body: _HashedBody
    answer: _RecordedAnswer = field(default_factory=_RecordedAnswer)


async def _answer_again(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    if answer.body is None:
        place = answer.headers.get("location")
        created = "" if place is None else f"; it created {place}"
        error = Conflict(
            "The first request with this Idempotency-Key was done, and its answer is not stored"
            f"{created}. For another answer, send a new Idempotency-Key."
        )
        await problem_response(error)(scope, receive, send)
        return
    headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    length = (b"content-length", str(len(answer.body)).encode())
    start = {"status": answer.status, "headers": [*headers, length, REPLAYED]}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": answer.body})
