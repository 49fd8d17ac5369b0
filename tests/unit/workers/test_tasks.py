from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery
from sqlalchemy import Engine

from datagen.queue import QUEUE_OF, MemoryQueue
from datagen.settings import Settings
from datagen.storage import FileStorage
from workers import tasks
from workers.app import make_app
from workers.context import Context

FORGED = [
    None,
    7,
    1.5,
    True,
    [],
    ["x"],
    {"a": 1},
    "",
    "x",
    "../../etc/passwd",
    "\n" * 500,
    "0" * 99,
]


@pytest.fixture
def queue(
    engine: Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MemoryQueue:
    queue = MemoryQueue()
    own = Context(settings, engine, FileStorage(tmp_path / "storage"), queue)
    monkeypatch.setattr(tasks, "context", lambda: own)
    return queue


def test_every_message_has_its_task() -> None:
    app: Celery = make_app(Settings(broker_url="redis://127.0.0.1:1"))
    app.loader.import_default_modules()
    assert {name for name in app.tasks if name.startswith("datagen.")} == set(QUEUE_OF)


@pytest.mark.parametrize("value", FORGED, ids=lambda value: repr(value)[:12])
def test_a_forged_id_is_refused_before_anything_is_touched(
    value: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(tasks, "context")
    monkeypatch.delattr(tasks, "generation")
    tasks.run_batch(batch_id=value)
    tasks.run_export(export_id=value)
    tasks.run_training(model_id=value)
    refusals = capsys.readouterr().out.splitlines()
    assert len(refusals) == 3
    assert all("message_refused" in line and len(line) < 300 for line in refusals)


def test_arguments_of_a_newer_sender_are_ignored(queue: MemoryQueue) -> None:
    tasks.make_batches(added_later=1)
    tasks.requeue_stale(added_later=1)
    tasks.sweep_storage(added_later=1)
    tasks.run_export(export_id=str(uuid4()), added_later=1)
    assert not queue.waiting


def test_light_workers_do_not_load_torch() -> None:
    code = "import sys, workers.tasks, workers.children; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=60)
