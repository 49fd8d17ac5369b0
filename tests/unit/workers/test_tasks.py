from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from celery import Celery
from owners import add_owner
from sqlalchemy import Engine

from datagen.db.session import now, reading, writing
from datagen.db.tables import Export, Owner, new_id
from datagen.queue import QUEUE_OF, MemoryQueue
from datagen.service import claims, turns
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


@pytest.fixture
def exports(engine: Engine, settings: Settings, owner: Owner) -> dict[str, UUID]:
    """Two exports of an owner who has one in work already, and one of another owner."""
    other = add_owner(engine, "other")
    with writing(engine) as session:
        moment = now(session)
        found = {}
        for name, owner_id in (
            ("running", owner.id), ("one", owner.id), ("two", owner.id), ("others", other.id)
        ):  # fmt: skip
            row = Export(
                id=new_id(), owner_id=owner_id, format="npz", request={}, warnings=[],
                state="queued", images_written=0, images_total=1, created_at=moment,
                available_at=moment, sent_at=moment,
            )  # fmt: skip
            session.add(row)
            found[name] = row.id
        session.flush()
        assert claims.claim(session, settings, Export, found["running"]) is not None
    return found


def test_message_is_not_lost_where_another_worker_claims_what_was_chosen(
    engine: Engine,
    exports: dict[str, UUID],
    queue: MemoryQueue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both_chose = threading.Barrier(2, timeout=30)
    chosen: list[UUID] = []
    run_claimed = tasks._run_claimed

    def run_together(own: Context, kind: turns.Long, row_id: UUID) -> bool:
        chosen.append(row_id)
        if len(chosen) <= 2:
            both_chose.wait()
        return run_claimed(own, kind, row_id)

    monkeypatch.setattr(tasks, "_run_claimed", run_together)
    with ThreadPoolExecutor(2) as pool:
        ended = [pool.submit(tasks.run_export, export_id=str(exports[n])) for n in ("one", "two")]
        for one in ended:
            one.result(60)

    assert chosen[:2] == [exports["others"]] * 2
    with reading(engine) as session:
        attempts = {name: session.get_one(Export, row).attempt for name, row in exports.items()}
    assert attempts["others"] == 1
    assert sorted((attempts["one"], attempts["two"])) == [0, 1]


def test_arguments_of_a_newer_sender_are_ignored(queue: MemoryQueue) -> None:
    tasks.make_batches(added_later=1)
    tasks.requeue_stale(added_later=1)
    tasks.sweep_storage(added_later=1)
    tasks.run_export(export_id=str(uuid4()), added_later=1)
    assert not queue.waiting


def test_light_workers_do_not_load_torch() -> None:
    code = "import sys, workers.tasks, workers.children; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=60)
