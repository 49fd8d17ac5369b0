from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytestmark = pytest.mark.xdist_group("stack")


def test_generate_waits_and_puts_the_export_into_out(stack: Any, tmp_path: Path) -> None:
    out = tmp_path / "digits"
    ran = stack.command(
        "generate", "--labels", "3=12,8=7", "--seed", "5", "--format", "imagefolder",
        "--out", str(out), "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["state"] == "succeeded"
    assert ran.json == stack.http.get(f"/v1/jobs/{ran.json['id']}").json()
    assert len(list((out / "train" / "3").glob("*.png"))) == 12
    eights = sorted((out / "train" / "8").glob("*.png"))
    assert len(eights) == 7
    with Image.open(eights[0]) as image:
        assert image.size == (28, 28)
    assert (out / "manifest.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_generate_exports_parquet_by_default(stack: Any, tmp_path: Path) -> None:
    ran = stack.command("generate", "--per-label", "2", "--out", str(tmp_path / "p"))
    assert ran.code == 0, ran.err
    assert list((tmp_path / "p" / "data").glob("train-*.parquet"))
    assert "succeeded" in ran.out
    assert str(tmp_path / "p") in ran.out
    assert "generating: 20 of 20 images" in ran.err


def test_generate_with_a_gate_tells_what_it_refused(stack: Any) -> None:
    ran = stack.command("generate", "--labels", "8=50", "--seed", "3", "--min-score", "0.9")
    assert ran.code == 0, ran.err
    assert "min_score 0.9, max_attempts 20" in ran.out
    row = next(line for line in ran.out.splitlines() if line.startswith("8")).split()
    assert row[1:3] == ["50", "50"]
    assert int(row[-3]) > 0


def test_generate_without_a_gate_takes_every_image(stack: Any) -> None:
    ran = stack.command("generate", "--labels", "8=5", "--no-gate", "--json")
    assert (ran.code, ran.json["gate"]) == (0, None)
    both = stack.command("generate", "--labels", "8=5", "--no-gate", "--min-score", "0.9")
    assert both.code == 2
    assert "--min-score is for a gate" in both.err


def test_detach_answers_at_once_and_watch_follows(stack: Any) -> None:
    detached = stack.command("generate", "--per-label", "3", "--detach", "--json")
    assert detached.code == 0, detached.err
    assert detached.json["state"] in {"queued", "running"}
    watched = stack.command("job", "watch", detached.json["id"], "--json")
    assert (watched.code, watched.json["state"]) == (0, "succeeded")


def test_show_and_list_give_what_the_api_gives(stack: Any, job: Any) -> None:
    shown = stack.command("job", "show", job["id"], "--json")
    assert shown.json == stack.http.get(f"/v1/jobs/{job['id']}").json()
    listed = stack.command("job", "list", "--limit", "1000", "--json").json
    assert set(listed) == {"items", "next_cursor"}
    assert job["id"] in {one["id"] for one in listed["items"]}
    assert "\t50\t50\t" in stack.command("job", "list", "--limit", "1000").out
    assert "\n3\t30\t30\t" in stack.command("job", "show", job["id"]).out


def test_listing_goes_on_with_the_cursor(stack: Any, job: Any) -> None:
    assert stack.command("generate", "--labels", "1=1", "--json").code == 0
    first = stack.command("job", "list", "--limit", "1", "--json").json
    cursor = first["next_cursor"]
    second = stack.command("job", "list", "--limit", "1", "--cursor", cursor, "--json")
    assert first["items"][0]["id"] > second.json["items"][0]["id"]


def test_cancel_ends_a_running_job_and_watching_it_fails(stack: Any) -> None:
    made = stack.command("generate", "--per-label", "100000", "--detach", "--json").json
    cancelled = stack.command("job", "cancel", made["id"], "--json")
    assert (cancelled.code, cancelled.json["state"]) == (0, "cancelled")
    watched = stack.command("job", "watch", made["id"], "--json")
    assert (watched.code, watched.json["state"]) == (1, "cancelled")
    assert "cancelled" in watched.err
    assert stack.command("job", "cancel", made["id"]).code == 1


def test_ctrl_c_leaves_the_job_to_the_server(stack: Any) -> None:
    with stack.start("generate", "--per-label", "50000", "--json") as command:
        assert command.stderr is not None
        line = command.stderr.readline()
        assert line.startswith("generating: "), line
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=30)
    assert (command.returncode, out) == (130, "")
    job_id = err.split("Job ")[1].split(" goes on")[0]
    assert f"datagen job watch {job_id}" in err
    assert stack.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 200


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("generate --model nope --per-label 1", 1, "nope"),
        ("generate --labels 11=1", 2, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ("generate --per-label 1000000000", 1, "quota"),
        ("generate --per-label 1 --format nope", 2, "imagefolder"),
        ("job show nope", 1, "nope"),
        ("job show ../models", 1, "models"),
        ("job list --state nope", 2, "nope"),
        ("generate --per-label 1 --sampler nope", 2, "interpolate"),
        ("generate --per-label 1 --sampler neighbour", 1, "another owner"),
        ("generate --per-label 1 --truncation 0", 2, "truncation"),
        ("generate --per-label 1 --sampler neighbour --strength 1.5", 2, "from 0 to 1"),
        ("generate --per-label 1 --strength 0.5", 2, "--sampler neighbour"),
        ("train m --dataset d --family nope", 2, "options.family"),
        ("job list --cursor nope", 2, "nope"),
        ("export show nope", 1, "nope"),
        ("model show nope", 1, "nope"),
        ("dataset show nope", 1, "nope"),
        ("train m --dataset nope", 1, "nope"),
    ],
)
def test_refusals_are_one_line_with_their_code(
    stack: Any, line: str, code: int, words: str
) -> None:
    ran = stack.command(*line.split())
    assert (ran.code, ran.out) == (code, ""), ran.err
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert words in ran.err


def test_refusal_with_json_is_the_problem(stack: Any) -> None:
    ran = stack.command("job", "show", "00000000-0000-7000-8000-000000000000", "--json")
    assert (ran.code, ran.out) == (1, "")
    assert json.loads(ran.err)["status"] == 404


def test_models_are_listed_and_shown(stack: Any) -> None:
    listed = stack.command("model", "list", "--json").json["items"]
    assert "mnist" in {one["name"] for one in listed}
    shown = stack.command("model", "show", "mnist", "--json")
    assert shown.json == stack.http.get("/v1/models/mnist").json()
    assert "mnist@" in stack.command("model", "show", "mnist").out


def test_doctor_finds_a_running_stack_healthy(stack: Any) -> None:
    ran = stack.command("doctor", "--json")
    assert ran.code == 0, ran.out
    found = {check["check"]: check["outcome"] for check in ran.json["checks"]}
    names = ("server", "database", "schema", "clock", "storage", "broker", "workers")
    assert {name: found[name] for name in names} == dict.fromkeys(names, "ok")
    workers = next(check["detail"] for check in ran.json["checks"] if check["check"] == "workers")
    for queues in ("interactive-bulk-train-", "control-", "export-"):
        assert queues in workers
