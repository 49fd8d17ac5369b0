"""Jobs that are planned, extended, retried and removed, by real workers, over HTTP and command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from running import wait_until

pytestmark = pytest.mark.xdist_group("stack")


def made(stack: Any, **wanted: Any) -> Any:
    body = {"model": "mnist", "labels": {"3": 4}, "seed": 11, "gate": None} | wanted
    job = stack.created("/v1/jobs", body)
    return stack.ended(f"/v1/jobs/{job['id']}")


def digests(stack: Any, job_id: str) -> list[str]:
    answer = stack.http.get(f"/v1/jobs/{job_id}/samples", params={"limit": 1000})
    return [sample["digest"] for sample in answer.json()["items"]]


def test_dry_run_tells_the_plan_and_makes_no_job(stack: Any) -> None:
    made(stack)
    before = stack.http.get("/v1/jobs", params={"limit": 1}).json()["items"]
    body = {"model": "mnist", "labels": {"3": 400, "8": 1}}
    answer = stack.http.post("/v1/jobs", params={"dry_run": True}, json=body)
    plan = answer.json()
    assert (answer.status_code, plan["labels"], plan["images"]) == (200, {"3": 400, "8": 1}, 401)
    assert plan["seconds"] > 0
    assert 401 * 100 < plan["bytes"] < 401 * 10_000
    assert stack.http.get("/v1/jobs", params={"limit": 1}).json()["items"] == before
    ran = stack.command("generate", "--labels", "3=400", "--dry-run")
    assert ran.code == 0, ran.err
    assert "400 in 2 batches" in ran.out


def test_extended_job_keeps_its_images_and_makes_the_next(stack: Any) -> None:
    job = made(stack)
    first = digests(stack, job["id"])
    ran = stack.command("job", "extend", job["id"], "--labels", "3=2,8=3", "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["state"], ran.json["images_stored"]) == ("succeeded", 9)
    assert [(one["label"], one["stored"]) for one in ran.json["labels"]] == [("3", 6), ("8", 3)]
    longer = digests(stack, job["id"])
    assert longer[:4] == first
    assert len(set(longer)) == 9
    whole = made(stack, labels={"3": 6})
    # The same seed and the same indices give the same images.
    assert digests(stack, whole["id"]) == longer[:6]


def test_extension_without_duplicates_keeps_what_was_there(stack: Any) -> None:
    gate = {"min_score": 0.0, "reject_copies": False, "on_shortfall": "keep"}
    job = made(stack, gate=gate)
    first = digests(stack, job["id"])
    extended = stack.http.post(f"/v1/jobs/{job['id']}/extend", json={"all": 2})
    assert extended.status_code == 202, extended.text
    assert stack.ended(f"/v1/jobs/{job['id']}")["images_stored"] == 24
    assert digests(stack, job["id"])[:4] == first


def test_cancelled_job_is_retried_to_its_end(stack: Any) -> None:
    job = stack.created("/v1/jobs", {"model": "mnist", "all": 3000, "gate": None})
    path = f"/v1/jobs/{job['id']}"
    wait_until(lambda: stack.http.get(path).json()["images_stored"] > 0, 60)
    cancelled = stack.http.post(path + "/cancel").json()
    assert cancelled["images_stored"] < 30_000
    ran = stack.command("job", "retry", job["id"], "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["state"], ran.json["images_stored"]) == ("succeeded", 30_000)
    assert all(label["stored"] == 3000 for label in ran.json["labels"])
    again = stack.command("job", "retry", job["id"])
    assert again.code == 1
    assert "is succeeded" in again.err


def test_running_job_tells_its_pace(stack: Any) -> None:
    job = stack.created("/v1/jobs", {"model": "mnist", "all": 3000, "gate": None})
    path = f"/v1/jobs/{job['id']}"

    def paced() -> Any:
        found = stack.http.get(path).json()
        return found if found["images_per_second"] or found["state"] == "succeeded" else None

    found = wait_until(paced, 60)
    assert (found["stage"], found["state"]) == ("generating", "running")
    assert found["seconds_left"] > 0
    assert stack.ended(path)["images_per_second"] is None


def test_removed_job_is_gone_and_its_export_stays(stack: Any, tmp_path: Path) -> None:
    job = made(stack, exports=["npz"])
    path = f"/v1/jobs/{job['id']}"
    export = stack.ended(f"/v1/exports/{job['exports'][0]}")
    refused = stack.command("job", "remove", job["id"])
    assert refused.code == 1
    assert f"named by export {export['id']}" in refused.err
    removed = stack.command("job", "remove", job["id"], "--force")
    assert removed.code == 0, removed.err
    assert stack.http.get(path).status_code == 404
    assert stack.http.delete(path).status_code == 404
    shards = stack.home / "storage" / "jobs" / job["id"]
    wait_until(lambda: not shards.exists() or not any(shards.iterdir()), 60)
    fetched = stack.command("export", "download", export["id"], "--out", str(tmp_path / "out"))
    assert fetched.code == 0, fetched.err


def test_balance_fills_up_a_dataset(stack: Any) -> None:
    added = stack.command("dataset", "add", "to-fill", "sample:mnist", "--json")
    assert added.code == 0, added.err
    there = added.json["counts"]["train"]
    body = {"model": "mnist", "balance": {"dataset": "to-fill", "to": max(there) + 2}}
    plan = stack.http.post("/v1/jobs", params={"dry_run": True}, json=body).json()
    names = added.json["class_names"]
    lacking = {name: max(there) + 2 - count for name, count in zip(names, there, strict=True)}
    assert plan["labels"] == lacking
    wanted = ("generate", "--balance", "to-fill", "--to", str(max(there) + 2), "--dry-run")
    assert stack.command(*wanted, "--json").json["labels"] == lacking
    counts = {"3": 3, "8": 1}
    ran = stack.command("generate", "--balance", "sample-none", "--dry-run")
    assert ran.code == 1
    assert "no dataset 'sample-none'" in ran.err
    assert stack.command("generate", "--to", "5", "--per-label", "1").code == 2
    refused = stack.http.post("/v1/jobs", json={"model": "mnist", "labels": counts, "all": 1})
    assert refused.status_code == 422
    assert "Give one of 'labels', 'all', 'count' and 'balance'" in refused.json()["detail"]


def test_metadata_priority_and_days_come_back(stack: Any) -> None:
    ran = stack.command(
        "generate", "--labels", "3=2", "--metadata", "ticket=VIS-17", "--metadata", "a=b=c",
        "--priority", "interactive", "--retention-days", "9", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["metadata"] == {"ticket": "VIS-17", "a": "b=c"}
    assert (ran.json["priority"], ran.json["retention_days"]) == ("interactive", 9)
    assert ran.json["expires_at"] > ran.json["ended_at"]
    shown = stack.command("job", "show", ran.json["id"]).out
    assert "VIS-17" in shown
    assert stack.command("generate", "--labels", "3=2", "--metadata", "x").code == 2
    assert stack.command("generate", "--labels", "3=2", "--priority", "now").code == 2


def test_jobs_are_listed_by_model_and_age(stack: Any) -> None:
    made(stack)
    newest = made(stack)["id"]
    listed = stack.http.get("/v1/jobs", params={"model": "mnist", "limit": 1}).json()["items"]
    assert [job["id"] for job in listed] == [newest]
    oldest = stack.http.get("/v1/jobs", params={"sort": "created_at", "limit": 1}).json()["items"]
    assert oldest[0]["id"] < newest
    for query in ({"model": "nobody's"}, {"sort": "seed"}, {"created_after": "2026-01-01T00:00"}):
        assert stack.http.get("/v1/jobs", params=query).status_code in {404, 422}
    none = stack.http.get("/v1/jobs", params={"created_before": "2020-01-01T00:00:00Z"})
    assert none.json()["items"] == []
