"""Pipelines by commands, on a stack of real processes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from digits import write_digits
from documents import blocks
from running import wait_until
from torchvision.datasets import ImageFolder

pytestmark = pytest.mark.xdist_group("stack")

# Of the sample that ships; no class of the 500 to 700 has more than it says.
LOPSIDED = (500, 250, 120, 60, 30, 500, 250, 120, 60, 30)
SMALL = """\
name: small
source: {dataset: lopsided}
model: mnist
plan: {fill: 130}
gate: null
deliver: [{format: npz}]
"""


@pytest.fixture(scope="module")
def lopsided(stack: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[int, int]:
    """The sample with few images of some classes, as two datasets; its counts."""
    folder = tmp_path_factory.mktemp("lopsided")
    for split in ("train", "test"):
        write_digits(folder / split, LOPSIDED, split)
    for name in ("defects", "lopsided"):
        assert stack.command("dataset", "add", name, str(folder)).code == 0
    return dict(enumerate(LOPSIDED))


@pytest.fixture
def small(stack: Any, lopsided: dict[int, int], tmp_path: Path) -> Path:
    """The file of a pipeline that makes few images, applied."""
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    assert stack.command("pipeline", "apply", str(file)).code == 0
    return file


def test_readmes_pipeline_fills_every_class_of_a_lopsided_set(
    stack: Any, lopsided: dict[int, int], tmp_path: Path
) -> None:
    (recipe,) = blocks("README.md", "yaml")
    (tmp_path / "nightly.yaml").write_text(recipe.text)
    carried = tmp_path / "model.zip"
    assert stack.command("model", "export", "mnist", "--out", str(carried)).code == 0
    assert stack.command("model", "import", "defects", str(carried)).code == 0
    file = str(tmp_path / "nightly.yaml")
    told = stack.command("pipeline", "validate", file, "--json").json
    assert (len(told["next"]), told["warnings"]) == (5, [])
    assert stack.command("pipeline", "apply", file, "--json").json["version"] == 1
    dry = stack.command("pipeline", "run", "nightly", "--dry-run", "--json").json
    assert [one["before"] for one in dry["classes"]] == list(LOPSIDED)
    assert {one["after"] for one in dry["classes"]} == {5000}

    ran = stack.command("pipeline", "run", "nightly", "--wait", "--json")

    run = ran.json
    assert (ran.code, run["state"], run["images"]) == (0, "succeeded", 50_000 - sum(LOPSIDED))
    (export_id,) = run["exports"]
    out = tmp_path / "filled"
    assert stack.command("export", "download", export_id, "--out", str(out)).code == 0
    opened = ImageFolder(str(out / "train"))
    assert Counter(opened.targets) == dict.fromkeys(range(10), 5000)
    assert len(opened[49_999][0].getbands()) == 3
    manifest = json.loads((out / "manifest.json").read_text())
    assert list(manifest["synthetic"]["train"].values()) == [5000 - n for n in LOPSIDED]
    job = stack.http.get(f"/v1/jobs/{run['job']}").json()
    assert (job["seed"], job["metadata"]["pipeline"]) == (5, "nightly")


def test_words_for_people_say_what_is_there(stack: Any, small: Path) -> None:
    ran = stack.command("pipeline", "run", "small", "--wait")
    assert ran.code == 0, ran.err
    run_id = ran.out.split()[1]
    assert "images are stored" in ran.out
    assert f"{run_id}\tsucceeded" in stack.command("pipeline", "history", "small").out
    assert "plan: succeeded" in stack.command("pipeline", "logs", run_id).out
    assert run_id in stack.command("pipeline", "logs", "small").out
    shown = stack.command("pipeline", "show", "small").out
    assert f"last run: {run_id} succeeded" in shown
    assert "plan:\n  fill: 130" in shown
    assert "small\t" in stack.command("pipeline", "list").out
    assert stack.command("pipeline", "pause", "small").out == "Pipeline small is paused.\n"
    assert "by hand" in stack.command("pipeline", "resume", "small").out
    assert "No due time comes" in stack.command("pipeline", "next", "small").err
    detached = stack.command("pipeline", "run", "small", "--json").json
    assert stack.ended(f"/v1/runs/{detached['id']}")["state"] == "succeeded"
    assert stack.command("pipeline", "delete", "small").code == 0
    gone = stack.command("pipeline", "show", "small")
    assert (gone.code, "There is no pipeline 'small'" in gone.err) == (1, True)


def test_run_that_fails_says_why_and_exits_with_1(stack: Any, small: Path) -> None:
    small.write_text(SMALL.replace("lopsided", "nowhere"))
    assert "There is no dataset 'nowhere'" in stack.command(
        "pipeline", "validate", str(small)
    ).err  # fmt: skip
    stack.command("pipeline", "apply", str(small))
    ran = stack.command("pipeline", "run", "small", "--wait")
    assert ran.code == 1
    assert ran.err.splitlines()[-1].endswith(
        "There is no dataset 'nowhere'; `datagen dataset list` shows them."
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x\nplan: *p", "'*p' is an alias"),
        ("name: x", "source"),
        (SMALL + "schedule: {cron: '* * * * *'}", "every 60 s"),
        (SMALL + "on_overlapp: skip", "'on_overlap' may be meant"),
    ],
)
def test_file_that_cannot_be_is_refused_with_code_2(
    stack: Any, tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    ran = stack.command("pipeline", "apply", str(file))
    assert (ran.code, words in ran.err, len(ran.err.splitlines())) == (2, True, 1), ran.err


def test_new_version_of_a_dataset_runs_the_pipeline_that_watches_it(
    stack: Any, tmp_path: Path
) -> None:
    recipe = SMALL.replace("lopsided", "watched").replace("small", "watching")
    (tmp_path / "watching.yaml").write_text(f"{recipe}schedule: {{on_dataset: true}}\n")
    stack.command("pipeline", "apply", str(tmp_path / "watching.yaml"))
    folder = write_digits(tmp_path / "photos", [3] * 10)
    assert stack.command("dataset", "add", "watched", str(folder)).code == 0

    run = wait_until(lambda: stack.http.get("/v1/pipelines/watching/runs").json()["items"])[0]
    assert run["cause"] == "dataset"
    assert stack.ended(f"/v1/runs/{run['id']}")["state"] == "succeeded"
