"""A process that works on pipelines and kills itself at one of its transactions; run by tests."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any
from uuid import UUID

from pipeline_world import World
from sqlalchemy import Engine, event, select
from sqlalchemy.orm import Session

from datagen.db.session import open_engine, reading
from datagen.db.tables import Owner
from datagen.settings import Settings
from datagen.storage import FileStorage


def settings_of(url: str, folder: Path) -> Settings:
    """Those of all processes of the test: what a killed one had is free again at once."""
    return Settings(
        home=folder / "home",
        database_url=url,
        storage_url=(folder / "storage").as_uri(),
        lease_seconds=0.4,
        backoff_seconds=0.01,
        max_attempts=20,
        dataset_roots=folder.as_uri(),
        export_destinations=f"disk={(folder / 'out').as_uri()}",
    )


def world_of(url: str, folder: Path) -> World:
    """The world of the owner that is there."""
    settings = settings_of(url, folder)
    engine = open_engine(url)
    with reading(engine) as session:
        owner = session.scalars(select(Owner).where(Owner.name == "tester")).one()
    return World(engine, FileStorage(folder / "storage"), settings, owner)


def kill_at(number: int, moment: str) -> None:
    """Kill this process just before or just after the n-th transaction that changed a row."""
    lock, here, seen = threading.Lock(), threading.local(), 0

    def note(_connection: Any, cursor: Any, *rest: Any) -> None:
        context = rest[2]
        if (context.isinsert or context.isupdate or context.isdelete) and cursor.rowcount:
            here.changed = True

    def count(_: Session) -> None:
        nonlocal seen
        changed = getattr(here, "changed", False)
        with lock:
            seen += changed
            if changed and seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    def forget(_: Session) -> None:
        here.changed = False

    event.listen(Engine, "after_cursor_execute", note)
    event.listen(Session, f"{moment}_commit", count)
    event.listen(Session, "after_commit", forget)


if __name__ == "__main__":
    _, url_, folder_, run_id_, number_, moment_ = sys.argv
    made = world_of(url_, Path(folder_))
    kill_at(int(number_), moment_)
    made.finish(UUID(run_id_))
