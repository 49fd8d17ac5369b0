"""ETag and If-None-Match on what is read as JSON: what has not changed is not sent again."""

from __future__ import annotations

import hashlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NOT_MODIFIED = 304
OK = 200


class Conditional:
    """Gives answers in JSON an entity tag, and answers 304 to whoever has that already."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        reads = scope["type"] == "http" and scope["method"] == "GET"
        if not reads or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        wanted = Headers(scope=scope).get("if-none-match", "")
        start: Message | None = None
        parts: list[bytes] = []

        async def held(message: Message) -> None:
            """Hold JSON back until it is whole; let everything else through as it comes."""
            nonlocal start
            if message["type"] == "http.response.start":
                headers = Headers(raw=message["headers"])
                is_json = headers.get("content-type", "").startswith("application/json")
                if message["status"] == OK and is_json and "etag" not in headers:
                    start = message
                    return
            elif start is not None and message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    await _finish(start, b"".join(parts), wanted, send)
                return
            await send(message)

        await self._app(scope, receive, held)


async def _finish(start: Message, body: bytes, wanted: str, send: Send) -> None:
    # Weak, as by RFC 9110: it stands for what is said, not for how a proxy may pack it.
    tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = MutableHeaders(raw=start["headers"])
    headers["ETag"] = tag
    headers["Cache-Control"] = "private, no-cache"
    if _has(wanted, tag):
        del headers["content-length"]
        del headers["content-type"]
        await send({**start, "status": NOT_MODIFIED, "headers": headers.raw})
        await send({"type": "http.response.body", "body": b""})
        return
    await send({**start, "headers": headers.raw})
    await send({"type": "http.response.body", "body": body})


def _has(wanted: str, tag: str) -> bool:
    """Whether one of the tags that were sent is this one; weakly compared, as for 304 it should."""
    given = {one.strip().removeprefix("W/") for one in wanted.split(",")}
    return "*" in given or tag.removeprefix("W/") in given
