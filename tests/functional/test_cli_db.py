"""`datagen db check` and `rebuild` on a running stack."""

from __future__ import annotations

import sqlite3
from contextlib import closing
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
