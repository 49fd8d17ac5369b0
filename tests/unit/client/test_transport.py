from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from datagen.client.address import Address
from datagen.client.transport import Transport, quoted
from datagen.errors import (
    Conflict,
    DatagenError,
    NotFound,
    ServerUnreachable,
    Unavailable,
    UnknownLabel,
)
from datagen.schemas import Page


def says(status: int, body: object, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


PAGE = says(200, {"items": ["a"], "next_cursor": None})


def problem(slug: str, status: int, **more: Any) -> dict[str, Any]:
    kind = f"urn:datagen:problem:{slug}"
    return {"type": kind, "title": "T", "status": status, "detail": "Why.", **more}


def test_key_and_wanted_query_are_sent(server: Any, transport: Transport) -> None:
    server.script = [PAGE]
    assert transport.get("/v1/x", Page[str], limit=3, cursor=None).items == ["a"]
    assert server.requests[0].path == "/v1/x?limit=3"
    assert server.requests[0].headers["Authorization"] == "Bearer dg_abc_secret"


def test_problem_becomes_the_error_of_its_type(server: Any, transport: Transport) -> None:
    server.script = [says(422, problem("unknown-label", 422, field="labels"))]
    with pytest.raises(UnknownLabel, match=r"Why\.") as caught:
        transport.post("/v1/jobs", Page[str], {})
    assert caught.value.field == "labels"


def test_problem_of_a_newer_server_becomes_the_error_of_its_status(
    server: Any, transport: Transport
) -> None:
    server.script = [says(409, problem("brand-new", 409))]
    with pytest.raises(Conflict):
        transport.get("/v1/x", Page[str])


def test_answer_of_another_kind_of_server_is_an_error_in_words(
    server: Any, transport: Transport
) -> None:
    server.script = [says(200, b"<html>")]
    with pytest.raises(DatagenError, match="as a datagen server does"):
        transport.get("/v1/x", Page[str])
    server.script = [says(404, b"<html>")]
    with pytest.raises(NotFound, match="answered 404"):
        transport.get("/v1/x", Page[str])
    server.script = [says(301, b"", Location="https://elsewhere")]
    with pytest.raises(DatagenError, match="https://elsewhere"):
        transport.get("/v1/x", Page[str])


def test_reading_is_tried_again_while_the_server_is_away(server: Any, transport: Transport) -> None:
    server.script = [says(503, problem("unavailable", 503)), says(502, b"bad gateway"), PAGE]
    assert transport.get("/v1/x", Page[str]).items == ["a"]
    assert len(server.requests) == 3


def test_creating_is_tried_again_under_one_key(server: Any, transport: Transport) -> None:
    server.script = [
        says(503, problem("unavailable", 503)),
        says(409, problem("in-flight", 409)),
        PAGE,
    ]
    assert transport.post("/v1/x", Page[str], {}).items == ["a"]
    keys = {request.headers["Idempotency-Key"] for request in server.requests}
    assert (len(server.requests), len(keys)) == (3, 1)
    server.script = [PAGE]
    transport.post("/v1/x", Page[str], {})
    assert server.requests[3].headers["Idempotency-Key"] not in keys


def test_limit_of_requests_is_waited_for(server: Any, transport: Transport) -> None:
    refused = problem("too-many-requests", 429)
    for send in (
        lambda: transport.get("/v1/x", Page[str]),
        lambda: transport.post("/v1/x", Page[str], {}),
    ):
        server.script = [says(429, refused, **{"Retry-After": "1"}), PAGE]
        began = time.monotonic()
        assert send().items == ["a"]
        assert time.monotonic() - began >= 1


def test_conflict_is_not_tried_again(server: Any, transport: Transport) -> None:
    server.script = [says(409, problem("conflict", 409))]
    with pytest.raises(Conflict):
        transport.post("/v1/x", Page[str], {})
    assert len(server.requests) == 1


def test_numbers_that_json_cannot_hold_reach_the_server_for_its_own_words(
    server: Any, transport: Transport
) -> None:
    server.script = [says(422, problem("invalid-request", 422, field="temperature"))]
    with pytest.raises(DatagenError) as caught:
        transport.post("/v1/jobs", Page[str], {"temperature": float("nan")})
    assert caught.value.field == "temperature"


def test_closed_port_is_server_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        transport = Transport(Address(url, None), timeout=1.0)
        with pytest.raises(ServerUnreachable, match="datagen up"):
            transport.post("/v1/x", Page[str])
        transport.close()


def test_silent_server_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        transport = Transport(Address(url, None), timeout=0.1)
        with pytest.raises(Unavailable, match=r"no answer within 0\.1 s"):
            transport.post("/v1/x", Page[str])
        transport.close()


def test_upload_streams_with_its_length(server: Any, transport: Transport) -> None:
    server.script = [PAGE]
    transport.upload("/v1/x", Page[str], iter([b"a" * 10, b"b" * 5]), 15, name="n")
    assert server.requests[0].headers["Content-Length"] == "15"
    assert server.requests[0].path == "/v1/x?name=n"


def test_reference_stays_one_part_of_the_path() -> None:
    assert quoted("a/../b?c@2") == "a%2F..%2Fb%3Fc%402"
