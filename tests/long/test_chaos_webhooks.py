"""Receivers that lead elsewhere: by a redirect, or by a name that changes after a look at it."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from commands import DATAGEN
from mounts import environment_of, shell
from receivers import Receiver, receiver
from running import wait_until

from datagen.client import Client

__all__ = ["receiver"]

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("mounts")]

NAME = "receiver.test"
# Of the addresses that are public and nobody's here: nothing is sent, the name is only looked up.
PUBLIC = "192.88.98.1"


@pytest.mark.parametrize("private", [True, False], ids=["redirect", "another address"])
def test_delivery_goes_nowhere_but_to_the_address_that_was_checked(
    receiver: Receiver, tmp_path: Path, private: bool
) -> None:
    receiver.status, receiver.headers = 307, {"Location": "/inside", "Content-Length": "0"}
    hosts = tmp_path / "hosts"
    local = "127.0.0.1 localhost\n"
    hosts.write_text(f"{local}{'127.0.0.1' if private else PUBLIC} {NAME}\n")
    home = tmp_path / "home"
    script = f"mount --bind {hosts} /etc/hosts; exec {DATAGEN} up --port 0 --json"
    environment = environment_of(home, webhooks_private=private)
    with subprocess.Popen(
        shell(script), env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline() or "{}")["url"]
            with Client(url, (home / "api-key").read_text().strip()) as client:
                hook = client.webhooks.create(f"http://{NAME}:{receiver.port}/hook")
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
    assert set(receiver.paths) == ({"/hook"} if private else set())
