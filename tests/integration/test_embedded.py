from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from datagen.client import Client
from datagen.embedded import EmbeddedStack, RunningStack, Workers, running_stack
from datagen.embedded import home as homes
from datagen.errors import HomeUnusable, InvalidRequest
from datagen.settings import Settings

Until = Callable[..., None]


def stack(home: Path, **options: object) -> EmbeddedStack:
    # Without torch: what is tried here is the frame, and it is quicker.
    return EmbeddedStack(Settings(home=home), **{"workers": Workers.LIGHT, **options})  # type: ignore[arg-type]


def test_start_returns_when_all_is_ready_and_stop_leaves_nothing(tmp_path: Path) -> None:
    with stack(tmp_path) as running:
        pids = dict(running.pids)
        workers = {"export-worker", "control-worker", "deliver-worker"}
        assert set(pids) == {"valkey", "api", "beat"} | workers
        with Client(running.url, running.api_key) as client:
            assert [model.name for model in client.models.list().items] == ["mnist"]
        found = running_stack(tmp_path)
        assert found is not None
        assert found == RunningStack(running.url, os.getpid(), Workers.LIGHT)
    assert running_stack(tmp_path) is None
    assert not any(psutil.pid_exists(pid) for pid in pids.values())
    assert not list(tmp_path.glob("valkey/*.sock"))


def test_stack_without_workers_reads_and_has_no_broker(tmp_path: Path) -> None:
    with stack(tmp_path, workers=Workers.NONE) as running:
        assert set(running.pids) == {"api"}
        with Client(running.url, running.api_key) as client:
            assert [model.name for model in client.models.list().items] == ["mnist"]
    assert not list(tmp_path.glob("valkey/*"))


def test_home_is_free_again_and_keeps_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "LOCK_SECONDS", 0.2)
    with stack(tmp_path) as first:
        key = first.api_key
        with pytest.raises(HomeUnusable, match="in use"):
            stack(tmp_path).start()
        assert first.pids
    with stack(tmp_path) as second:
        assert second.api_key == key


def test_port_that_is_taken_is_named_and_the_home_stays_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidRequest, match=str(port)):
            stack(tmp_path, port=port).start()
    assert running_stack(tmp_path) is None
    stack(tmp_path).stop()


def test_lost_key_is_replaced(tmp_path: Path) -> None:
    with stack(tmp_path) as first:
        old = first.api_key
    (tmp_path / "api-key").write_text("dg_forged_key\n")
    with stack(tmp_path) as second, Client(second.url, second.api_key) as client:
        assert second.api_key not in {old, "dg_forged_key"}
        assert client.jobs.list().items == []
