from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("stack")


def test_create_waits_and_downloads(stack: Any, job: Any, tmp_path: Path) -> None:
    out = tmp_path / "folders"
    ran = stack.command(
        "export", "create", job["id"], "--format", "imagefolder", "--out", str(out), "--json"
    )
    assert ran.code == 0, ran.err
    assert (ran.json["state"], ran.json["job"]) == ("succeeded", job["id"])
    assert len(list(out.glob("train/*/*.png"))) == 50
    shown = stack.command("export", "show", ran.json["id"], "--json")
    assert shown.json == stack.http.get(f"/v1/exports/{ran.json['id']}").json()
    listed = stack.command("export", "list", "--job", job["id"], "--json").json["items"]
    assert ran.json["id"] in {one["id"] for one in listed}


def test_download_makes_out_the_root_and_refuses_what_is_there(
    stack: Any, job: Any, tmp_path: Path
) -> None:
    made = stack.command("export", "create", job["id"], "--format", "parquet", "--json").json
    out = tmp_path / "deep" / "er"
    ran = stack.command("export", "download", made["id"], "--out", str(out))
    assert ran.code == 0, ran.err
    assert list((out / "data").glob("*.parquet"))
    assert list((tmp_path / "deep").iterdir()) == [out]
    again = stack.command("export", "download", made["id"], "--out", str(out))
    assert again.code == 2
    assert str(out) in again.err


def test_export_of_a_running_job_is_refused(stack: Any, tmp_path: Path) -> None:
    made = stack.command("generate", "--per-label", "100000", "--detach", "--json").json
    ran = stack.command("export", "create", made["id"], "--format", "parquet")
    assert ran.code == 1
    assert "running" in ran.err or "queued" in ran.err
    stack.http.post(f"/v1/jobs/{made['id']}/cancel")
