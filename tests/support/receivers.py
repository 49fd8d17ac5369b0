"""A real receiver of posts on this machine: what came, and what it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Receiver:
    """What came to a receiver, and what it answers.

    Attributes:
        port: on which it listens.
        status: it answers with, where `answers` has none left.
        answers: statuses of the next answers.
        headers: of every answer.
        body: of every answer.
        paths: of all requests, in the order in which they came.
        posted: the headers, by names in small letters, and the body of each request.
    """

    port: int = 0
    status: int = 204
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    paths: list[str] = field(default_factory=list)
    posted: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """An address that it is reached at."""
        return f"http://127.0.0.1:{self.port}/hook"

    def events(self) -> list[str]:
        """The events that came."""
        return [json.loads(body)["event"] for _, body in self.posted]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens as long as the block lasts."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found.paths.append(self.path)
            found.posted.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(found.answers.pop(0) if found.answers else found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(found.body)

        do_GET = do_POST  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of the test's own."""
    with receiving() as found:
        yield found
