"""Models on the command line, against a real stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytestmark = pytest.mark.xdist_group("stack")


def digests(stack: Any, model: str) -> list[str]:
    made = stack.command("generate", "--model", model, "--labels", "3=4", "--seed", "7", "--json")
    assert made.code == 0, made.err
    samples = stack.http.get(f"/v1/jobs/{made.json['id']}/samples").json()["items"]
    return [sample["digest"] for sample in samples]


def test_exported_model_makes_the_same_images_under_another_name(
    stack: Any, tmp_path: Path
) -> None:
    out = tmp_path / "mnist.zip"
    ran = stack.command("model", "export", "mnist", "--out", str(out), "--json")
    assert ran.code == 0, ran.err
    assert ran.json == {"file": str(out), "bytes": out.stat().st_size}
    again = stack.command("model", "export", "mnist", "--out", str(out))
    assert (again.code, again.out) == (1, "")
    assert "is there already" in again.err
    assert stack.command("model", "export", "mnist", "--out", str(out), "--force").code == 0
    imported = stack.command("model", "import", "copied", str(out), "--json")
    assert imported.code == 0, imported.err
    assert (imported.json["version"], imported.json["state"]) == (1, "succeeded")
    assert stack.command("model", "import", "copied", str(out), "--json").json["version"] == 1

    assert digests(stack, "copied") == digests(stack, "mnist")
    refused = stack.command("model", "remove", "copied")
    assert refused.code == 1
    assert "came of; force it" in refused.err
    assert stack.command("model", "remove", "copied", "--force").code == 0
    assert stack.command("model", "show", "copied").code == 1
    # The jobs stay, and tell which model it was.
    listed = stack.http.get("/v1/jobs").json()["items"]
    assert "copied" in {job["model"]["name"] for job in listed}


def test_model_without_labels_makes_images_that_the_judge_labels(
    stack: Any, tmp_path: Path
) -> None:
    assert stack.command("dataset", "add", "for-vae", "sample:mnist").code == 0
    trained = stack.command(
        "train", "no-labels", "--dataset", "for-vae", "--family", "vae", "--epochs", "1",
        "--no-refine", "--judge-epochs", "1", "--preset", "small", "--json",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    out = tmp_path / "made"
    ran = stack.command(
        "generate", "--model", "no-labels", "--count", "40", "--seed", "2",
        "--format", "imagefolder", "--out", str(out), "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert (ran.json["labelled_by"], ran.json["images_stored"]) == ("judge", 40)
    assert sum(label["stored"] for label in ran.json["labels"]) == 40
    assert {label["requested"] for label in ran.json["labels"]} == {None}
    for label in ran.json["labels"]:
        folder = out / "train" / label["label"]
        assert len(list(folder.glob("*.png"))) == label["stored"]
        query = {"label": label["label"], "limit": 100}
        listed = stack.http.get(f"/v1/jobs/{ran.json['id']}/samples", params=query).json()
        assert len(listed["items"]) == label["stored"]
    assert "the label that the judge gave it" in (out / "README.md").read_text()
    labelled = stack.command(
        "generate", "--model", "no-labels", "--per-label", "2", "--sampler", "prior"
    )
    assert labelled.code == 2
    assert "ask with 'count'" in labelled.err
    assert stack.command("generate", "--model", "mnist", "--count", "2").code == 2
    # Left to the model, labels are asked for round real images that have them.
    near = stack.command("generate", "--model", "no-labels", "--per-label", "2", "--json")
    assert near.code == 0
    assert near.json["sampler"] in {"neighbour", "interpolate"}


def test_budget_with_little_room_is_said_while_training_and_with_the_model(stack: Any) -> None:
    assert stack.command("dataset", "add", "hurried", "sample:mnist").code == 0
    trained = stack.command("train", "hurried", "--dataset", "hurried", "--time-budget", "1s")
    assert trained.code == 0, trained.err
    note = "warning: The time budget of 1s has room for"
    assert note in trained.err
    assert note in stack.command("model", "show", "hurried").err


@pytest.mark.parametrize("data", [b"", b"\x80\x04K\x01.", b"PK\x03\x04 no zip" * 40])
def test_what_is_no_exported_model_is_refused(stack: Any, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(data)
    ran = stack.command("model", "import", "bad", str(path))
    assert ran.code in {1, 2}
    assert ran.err.splitlines()[-1].startswith("error: ")
    assert stack.http.get("/v1/models/bad").status_code == 404


def test_models_are_compared(stack: Any) -> None:
    ran = stack.command("model", "compare", "mnist", "mnist@1", "--json")
    assert ran.code == 0, ran.err
    rows = {row["name"]: row for row in ran.json["rows"]}
    assert rows["latent_dim"]["values"] == [32, 32]
    assert not any(row["differs"] for row in ran.json["rows"])
    assert "latent dim\t\t32\t32" in stack.command("model", "compare", "mnist", "mnist@1").out
    assert stack.command("model", "compare", "mnist").code == 2


def test_report_is_a_folder_of_pictures_with_a_page(stack: Any, tmp_path: Path) -> None:
    out = tmp_path / "report"
    ran = stack.command("model", "report", "mnist", "--out", str(out), "--json")
    assert ran.code == 0, ran.err
    assert len(ran.json["names"]) == 9
    page = (out / "index.html").read_text(encoding="utf-8")
    for name in ran.json["names"]:
        with Image.open(out / f"{name}.png") as image:
            assert image.width > 200
        assert (out / f"{name}.svg").read_bytes().startswith(b"<?xml")
        numbers = json.loads((out / f"{name}.json").read_text())
        assert f'src="{name}.png" alt="' in page
        assert numbers["caption"]
    assert "<script" not in page
    assert stack.command("model", "report", "mnist", "--out", str(out)).code == 2
    assert stack.command("model", "report", "mnist", "--out", str(out), "--force").code == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    assert stack.command("model", "report", "mnist", "--out", str(tmp_path / "mine")).code == 2
    assert stack.command("model", "report", "nobodys", "--out", str(tmp_path / "x")).code == 1


def test_figures_are_fetched_one_by_one(stack: Any, tmp_path: Path) -> None:
    assert stack.command("model", "report", "mnist", "--out", str(tmp_path / "r")).code == 0
    for name, kind in (("loss", "image/png"), ("loss.svg", "image/svg+xml"),
                       ("samples.json", "application/json")):  # fmt: skip
        answer = stack.http.get(f"/v1/models/mnist/figures/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert stack.http.get("/v1/models/mnist/figures/mood.png").status_code == 404
    assert stack.http.get("/v1/models/nobodys/figures/loss.png").status_code == 404
    assert stack.http.post("/v1/models/mnist/figures", json={"dataset": "no"}).status_code == 404
