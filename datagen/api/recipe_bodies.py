"""Bodies in YAML: turned into the JSON that routes read, before any of them sees the request."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from starlette.types import Message

from datagen.api.auth import ScopedRoute
from datagen.api.uploads import receive_json
from datagen.recipes import MAX_BYTES, MEDIA_TYPES, read_recipe

# What a route says of its body in the OpenAPI document, beside JSON.
YAML_BODY = {
    "requestBody": {
        "content": {
            MEDIA_TYPES[0]: {"schema": {"$ref": "#/components/schemas/PipelineApply"}},
        }
    }
}


class RecipeRoute(ScopedRoute):
    """A route whose body may be YAML."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's handler, behind a reader of YAML."""
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind in MEDIA_TYPES:
                recipe = read_recipe(await receive_json(request, MAX_BYTES))
                request = _with_body(request, json.dumps(recipe).encode())
            return await inner(request)

        return handler


def _with_body(request: Request, body: bytes) -> Request:
    headers = [
        (name, value)
        for name, value in request.scope["headers"]
        if name not in {b"content-type", b"content-length"}
    ]
    headers += [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(dict(request.scope) | {"headers": headers}, receive)
