"""One owner's receivers that never answer hold up nobody else."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from running import Service, wait_until

from datagen import Client

SILENT = 20


@pytest.fixture
def silent() -> Iterator[list[str]]:
    """Addresses that accept connections and never answer."""
    with contextlib.ExitStack() as opened:
        servers = [
            opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(SILENT)
        ]
        yield [f"http://127.0.0.1:{one.getsockname()[1]}/" for one in servers]


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[bytes]]]:
    """One that answers, and what was posted to it."""
    posted: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", posted
        server.shutdown()


def test_silent_receivers_of_one_owner_delay_neither_exports_nor_deliveries_of_another(
    services: Callable[..., Service],
    tmp_path: Path,
    silent: list[str],
    receiver: tuple[str, list[bytes]],
) -> None:
    service = services(tmp_path / "home", workers=1, webhooks_private="true", tick_seconds=0.5)
    service.start()
    admin = service.client
    busy, quiet = (
        Client(service.url, admin.keys.create(owner, ["write"]).key) for owner in ("busy", "quiet")
    )
    url, posted = receiver
    with busy, quiet:
        hooks = [busy.webhooks.create(one) for one in silent]
        busy.jobs.wait(busy.jobs.create("mnist", {"3": 1}, gate=None).id)
        wait_until(
            lambda: any(
                one.attempt for hook in hooks for one in busy.webhooks.deliveries(hook.id).items
            ),
            60,
        )
        quiet.webhooks.create(url, ["job.succeeded", "export.succeeded"])
        began = time.monotonic()
        job = quiet.jobs.create("mnist", {"3": 2}, gate=None, exports=["npz"])
        quiet.exports.wait(quiet.jobs.wait(job.id).exports[0])
        wait_until(lambda: len(posted) == 2, 60)
        # Twenty receivers take 200 s, one after the other.
        assert time.monotonic() - began < 30
        # Each has failed several times in a row sooner or later, and is then left alone.
        paused = hooks[0].id
        wait_until(lambda: busy.webhooks.get(paused).failures, 90)
    service.stop()
