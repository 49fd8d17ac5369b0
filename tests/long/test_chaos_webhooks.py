"""Receivers that lead elsewhere: by a redirect, or by a name that changes after a look at it."""

from __future__ import annotations

import http.server
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import DATAGEN
from mounts import needs_mounts, shell, variables
from running import wait_until

from datagen.client import Client

pytestmark = [pytest.mark.timeout(300), needs_mounts]

NAME = "receiver.test"
# Of the addresses that are public and nobody's here: nothing is sent, the name is only looked up.
PUBLIC = "192.88.98.1"


@pytest.fixture
def receiver() -> Iterator[tuple[int, list[str]]]:
    """A receiver that leads from every path to /inside; its port, and the paths it was asked."""
    seen: list[str] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.path)
            self.send_response(307)
            self.send_header("Location", "/inside")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, seen
        server.shutdown()


@pytest.mark.parametrize("private", [True, False], ids=["redirect", "another address"])
def test_delivery_goes_nowhere_but_to_the_address_that_was_checked(
    receiver: tuple[int, list[str]], tmp_path: Path, private: bool
) -> None:
    port, seen = receiver
    hosts = tmp_path / "hosts"
    local = "127.0.0.1 localhost\n"
    hosts.write_text(f"{local}{'127.0.0.1' if private else PUBLIC} {NAME}\n")
    home = tmp_path / "home"
    script = f"mount --bind {hosts} /etc/hosts; exec {DATAGEN} up --port 0 --json"
    environment = variables(home, DATAGEN_WEBHOOKS_PRIVATE=str(private).lower())
    with subprocess.Popen(
        shell(script), env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline() or "{}")["url"]
            with Client(url, (home / "api-key").read_text().strip()) as client:
                hook = client.webhooks.create(f"http://{NAME}:{port}/hook")
                # The same file, as the mount is of it: the name leads inside from now on.
                hosts.write_text(f"{local}127.0.0.1 {NAME}\n")
                sent = client.webhooks.test(hook.id)
                wait_until(lambda: client.webhooks.deliveries(hook.id).items[0].error, 60.0)
                (shown,) = client.webhooks.deliveries(hook.id).items
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    assert shown.id == sent.id
    assert shown.state != "succeeded"
    assert seen == (["/hook"] * len(seen) if private else [])
    assert bool(seen) == private
