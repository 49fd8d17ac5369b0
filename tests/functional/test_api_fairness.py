"""One owner's receivers that never answer hold up nobody else."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from receivers import Receiver, receiver
from running import Service, wait_until

from datagen import Client

__all__ = ["receiver"]

SILENT = 20


@pytest.fixture
def silent() -> Iterator[list[str]]:
    """Addresses that accept connections and never answer."""
    with contextlib.ExitStack() as opened:
        servers = [
            opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(SILENT)
        ]
        yield [f"http://127.0.0.1:{one.getsockname()[1]}/" for one in servers]


def test_silent_receivers_of_one_owner_delay_neither_exports_nor_deliveries_of_another(
    services: Callable[..., Service],
    tmp_path: Path,
    silent: list[str],
    receiver: Receiver,
) -> None:
    service = services(tmp_path / "home", workers=1, webhooks_private="true", tick_seconds=0.5)
    service.start()
    admin = service.client
    busy, quiet = (
        Client(service.url, admin.keys.create(owner, ["write"]).key) for owner in ("busy", "quiet")
    )
    with busy, quiet:
        hooks = [busy.webhooks.create(one) for one in silent]
        busy.jobs.wait(busy.jobs.create("mnist", {"3": 1}, gate=None).id)
        wait_until(
            lambda: any(
                one.attempt for hook in hooks for one in busy.webhooks.deliveries(hook.id).items
            ),
            60,
        )
        quiet.webhooks.create(receiver.url, ["job.succeeded", "export.succeeded"])
        began = time.monotonic()
        job = quiet.jobs.create("mnist", {"3": 2}, gate=None, exports=["npz"])
        quiet.exports.wait(quiet.jobs.wait(job.id).exports[0])
        wait_until(lambda: len(receiver.posted) == 2, 60)
        # Twenty receivers take 200 s, one after the other.
        assert time.monotonic() - began < 30
        # One that fails several times in a row is then left alone for a while.
        wait_until(lambda: any(busy.webhooks.get(hook.id).paused_until for hook in hooks), 180)
    service.stop()
