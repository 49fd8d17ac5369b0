"""`datagen db check` and `rebuild` on a running stack."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from running import wait_until

pytestmark = pytest.mark.xdist_group("stack")


def test_rows_and_shards_that_were_lost_come_back(stack: Any) -> None:
    body = {"model": "mnist", "labels": {"3": 300}, "gate": None, "seed": 5}
    made = stack.created("/v1/jobs", body)
    job = stack.ended(f"/v1/jobs/{made['id']}")["id"]
    samples = f"/v1/jobs/{job}/samples?limit=1000"
    before = stack.http.get(samples).json()
    assert stack.command("db", "check", "--job", job, "--json").json == {
        "batches": 2,
        "problems": [],
    }

    with closing(sqlite3.connect(stack.home / "datagen.db", timeout=30)) as database, database:
        database.execute('DELETE FROM samples WHERE job_id = ? AND "index" < 7', (UUID(job).hex,))
    shard = max((stack.home / "storage" / "jobs" / job).glob("*.parquet"))
    shard.unlink()

    found = stack.command("db", "check", "--job", job)
    assert found.code == 1
    assert "have 249 rows, and their shard has 256 images" in found.err
    assert "is missing from the storage" in found.err
    rebuilt = stack.command("db", "rebuild", "--job", job, "--json")
    assert rebuilt.code == 0, rebuilt.err
    assert rebuilt.json == {"batches_with_new_rows": 1, "shards_asked_for": 1}
    wait_until(lambda: stack.command("db", "check", "--job", job).code == 0, 60)
    assert stack.http.get(samples).json() == before


def test_job_that_is_no_id_is_a_usage_error(stack: Any) -> None:
    ran = stack.command("db", "check", "--job", "x")
    assert ran.code == 2
    assert "--job is 'x'" in ran.err


def test_running_service_is_backed_up_and_lives_on_elsewhere(
    stack: Any, datagen: Any, tmp_path: Path
) -> None:
    body = {"model": "mnist", "labels": {"3": 7}, "gate": None}
    made = stack.created("/v1/jobs", body)
    job = stack.ended(f"/v1/jobs/{made['id']}")
    folder = tmp_path / "backup"
    taken = stack.command("backup", str(folder), "--json")
    assert taken.code == 0, taken.err
    assert taken.json["files"] > 0
    again = stack.command("backup", str(folder))
    assert again.code == 1
    assert "is not empty" in again.err

    home = {"DATAGEN_HOME": str(tmp_path / "home")}
    restored = datagen.run("restore", str(folder), "--json", environment=home)
    assert restored.code == 0, restored.err
    assert restored.json["rows"] == taken.json["rows"]
    checked = datagen.run("db", "check", "--json", "--job", job["id"], environment=home)
    assert checked.json == {"batches": 1, "problems": []}
    shown = datagen.run("job", "show", job["id"], "--json", environment=home)
    assert shown.code == 0, shown.err
    assert shown.json["images_stored"] == 7
    twice = datagen.run("restore", str(folder), environment=home)
    assert twice.code == 1
    assert "restore into an empty one" in twice.err
    assert datagen.run("restore", str(tmp_path), environment=home).code in {1, 2}
