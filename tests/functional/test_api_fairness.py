"""One owner's receivers that never answer hold up nobody else."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from receivers import Receiver, receiver
from running import Service, started, wait_until

from datagen import Client

__all__ = ["receiver"]

SILENT = 20


@pytest.fixture(scope="module")
def service(
    services: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("fairness") / "home"
    made = services(home, workers=1, webhooks_private="true", tick_seconds=0.5)
    with started(made):
        yield made


@pytest.fixture
def silent() -> Iterator[list[str]]:
    """Addresses that accept connections and never answer."""
    with contextlib.ExitStack() as opened:
        servers = [
            opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(SILENT)
        ]
        yield [f"http://127.0.0.1:{one.getsockname()[1]}/" for one in servers]


def test_silent_receivers_of_one_owner_delay_neither_exports_nor_deliveries_of_another(
    service: Service, silent: list[str], receiver: Receiver
) -> None:
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


def test_receiver_that_fails_three_times_in_a_row_is_paused(
    service: Service, receiver: Receiver
) -> None:
    receiver.status = 500
    client = service.client
    hook = client.webhooks.create(receiver.url, ["job.succeeded"])
    for _ in range(3):
        client.jobs.create("mnist", {"3": 1}, gate=None)
    wait_until(lambda: client.webhooks.get(hook.id).paused_until, 60)
    assert client.webhooks.get(hook.id).failures == len(receiver.posted) == 3
