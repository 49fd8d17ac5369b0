"""`Idempotency-Key`: a POST that comes again is answered as it was the first time."""

from __future__ import annotations

import hashlib
from uuid import UUID

from anyio.to_thread import run_sync
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from datagen.api.auth import Callers
from datagen.api.backends import Backends
from datagen.api.errors import problem_response
from datagen.api.logs import log
from datagen.db.session import writing
from datagen.errors import Conflict, DatagenError, Unauthorized
from datagen.service import replays
from datagen.service.replays import Answer

HEADER = "idempotency-key"
REPLAYED = (b"idempotency-replayed", b"true")
# What says nothing of the request itself: it was not done, and may be done later.
_NOT_DONE = frozenset({401, 403, 408, 413, 429})
_SERVER_ERRORS = 500
# Answers are small; whatever is not, is not kept.
LARGEST_ANSWER = 1 << 20
_KEPT_HEADERS = ("content-type", "location")


class Replays:
    """Does a POST with an `Idempotency-Key` once, and answers the others as the first."""

    def __init__(
        self,
        app: ASGIApp,
        backends: Backends,
        callers: Callers,
        uploads: frozenset[str],
        secrets: tuple[str, ...],
    ) -> None:
        """Wrap an application.

        Args:
            app: what does the requests.
            backends: where answers are kept.
            callers: who hold the keys.
            uploads: paths whose bodies are too large to be held; their length stands for them.
            secrets: beginnings of the paths whose answers hold what is shown once.
        """
        self._app, self._backends, self._callers = app, backends, callers
        self._uploads, self._secrets = uploads, secrets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        key = Headers(scope=scope).get(HEADER) if scope["type"] == "http" else None
        if key is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        owner_id = await self._owner_of(Headers(scope=scope).get("authorization", ""))
        if owner_id is None:
            await self._app(scope, receive, send)
            return
        fingerprint, receive = await self._read(scope, receive)
        try:
            kept = await run_sync(self._begin, owner_id, key, fingerprint)
        except DatagenError as error:
            await problem_response(error)(scope, receive, send)
            return
        if kept is not None:
            await self._tell_again(kept, scope, receive, send)
            return
        await self._do(owner_id, key, scope, receive, send)

    async def _owner_of(self, authorization: str) -> UUID | None:
        kind, _, text = authorization.partition(" ")
        if kind.lower() != "bearer":
            return None
        try:
            return (await self._callers.principal(text.strip())).owner_id
        except Unauthorized:
            return None

    async def _read(self, scope: Scope, receive: Receive) -> tuple[bytes, Receive]:
        """The request's fingerprint, and a `receive` that gives its body again."""
        headers = Headers(scope=scope)
        told = [scope["method"], scope["path"], scope["query_string"].decode("latin-1")]
        digest = hashlib.sha256("\0".join(told).encode())
        if scope["path"] in self._uploads and headers.get("content-type") != "application/json":
            digest.update(headers.get("content-length", "").encode())
            return digest.digest(), receive
        parts: list[Message] = []
        while True:
            message = await receive()
            parts.append(message)
            if message["type"] != "http.request" or not message.get("more_body"):
                break
            digest.update(message.get("body", b""))
        digest.update(parts[-1].get("body", b""))

        async def again() -> Message:
            return parts.pop(0) if parts else await receive()

        return digest.digest(), again

    def _begin(self, owner_id: UUID, key: str, fingerprint: bytes) -> Answer | None:
        with writing(self._backends.engine) as session:
            return replays.begin(session, owner_id, key, fingerprint)

    async def _tell_again(self, kept: Answer, scope: Scope, receive: Receive, send: Send) -> None:
        if kept.body is None:
            error = Conflict(
                "The first request with this Idempotency-Key was done, and its answer is not kept."
            )
            await problem_response(error)(scope, receive, send)
            return
        headers = [(name.encode(), value.encode()) for name, value in kept.headers.items()]
        length = (b"content-length", str(len(kept.body)).encode())
        await send(
            {
                "type": "http.response.start",
                "status": kept.status,
                "headers": [*headers, length, REPLAYED],
            }
        )
        await send({"type": "http.response.body", "body": kept.body})

    async def _do(
        self, owner_id: UUID, key: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        status, headers, body, large = 0, {}, bytearray(), False

        async def noted(message: Message) -> None:
            nonlocal status, headers, large
            if message["type"] == "http.response.start":
                status = message["status"]
                found = Headers(raw=message["headers"])
                headers = {name: found[name] for name in _KEPT_HEADERS if name in found}
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                large = large or len(body) > LARGEST_ANSWER
                if not message.get("more_body"):
                    # Before the last byte goes: whoever has the answer finds it kept.
                    await run_sync(keep)
            await send(message)

        def keep() -> None:
            done = status < _SERVER_ERRORS and status not in _NOT_DONE
            hidden = large or self._shows_secret(scope["path"])
            answer = Answer(status, headers, None if hidden else bytes(body))
            with writing(self._backends.engine) as session:
                if done:
                    replays.finish(session, owner_id, key, answer)
                else:
                    replays.forget(session, owner_id, key)

        try:
            await self._app(scope, receive, noted)
        except BaseException:
            if status == 0:
                await run_sync(self._forget, owner_id, key)
            raise

    def _shows_secret(self, path: str) -> bool:
        return path in self._secrets or (
            path.startswith(self._secrets) and path.endswith("/rotate")
        )

    def _forget(self, owner_id: UUID, key: str) -> None:
        log.warning("a request with an Idempotency-Key was not answered", key=key[:40])
        with writing(self._backends.engine) as session:
            replays.forget(session, owner_id, key)
