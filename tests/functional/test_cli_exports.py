from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

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


@pytest.fixture(scope="module")
def digits(stack: Any) -> Any:
    """The bundled sample as a dataset: 6,000 images to train on, 600 of each digit."""
    added = stack.command("dataset", "add", "digits", "sample:mnist", "--json")
    assert added.code == 0, added.err
    return added.json


def test_classes_are_numbered_by_their_names_where_that_is_asked_for(
    stack: Any, tmp_path: Path
) -> None:
    images = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)
    np.savez(
        tmp_path / "set.npz",
        x_train=images,
        y_train=np.array([0, 1, 1, 0]),
        class_names=np.array(["zebra", "ant"]),
    )
    added = stack.command("dataset", "add", "animals", str(tmp_path / "set.npz"), "--json")
    assert added.json["class_names"] == ["zebra", "ant"], added.err
    command = ["export", "create", "--dataset", "animals", "--format", "imagefolder"]
    for order, names in (("dataset", ["0-zebra", "1-ant"]), ("name", ["ant", "zebra"])):
        out = tmp_path / order
        ran = stack.command(*command, "--class-order", order, "--out", str(out), "--json")
        assert ran.code == 0, ran.err
        assert (out / "folders.txt").read_text().split() == names
        assert ran.json["request"]["class_order"] == order
    wrong = stack.command(*command, "--class-order", "size")
    assert wrong.code == 2
    assert "--class-order is 'size'; write dataset or name." in wrong.err


def test_dataset_filled_by_a_job_is_exported_and_verified(
    stack: Any, job: Any, digits: Any, tmp_path: Path
) -> None:
    assert digits["license"] == "cc-by-sa-3.0"
    out = tmp_path / "filled"
    ran = stack.command(
        "export", "create", job["id"], "--dataset", "digits", "--add", "20", "--labels", "3,8",
        "--format", "webdataset", "--out", str(out), "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["dataset"] == "digits@1"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["synthetic"]["train"]["3"] == manifest["synthetic"]["train"]["8"] == 20
    assert manifest["counts"]["train"]["3"] == digits["counts"]["train"][3] + 20
    assert manifest["counts"]["test"]["8"] == digits["counts"]["test"][8]
    assert manifest["license"] == "cc-by-sa-3.0"

    checked = stack.command("verify", str(out))
    assert (checked.code, "All" in checked.out) == (0, True)
    tar = out / "train" / "train-000000.tar"
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 1
    tar.write_bytes(data)
    spoilt = stack.command("verify", str(out), "--json")
    assert spoilt.code == 1
    assert spoilt.json["problems"] == ["train/train-000000.tar is not as it was written."]


def test_plan_that_cannot_be_met_is_refused_with_the_numbers(
    stack: Any, job: Any, digits: Any
) -> None:
    ran = stack.command("export", "create", job["id"], "--dataset", "digits", "--fill", "640")
    assert ran.code == 2
    assert "asks for more synthetic images than the jobs have" in ran.err
    kept = stack.command(
        "export", "create", job["id"], "--dataset", "digits", "--fill", "640", "--keep", "--json"
    )
    assert kept.code == 0, kept.err
    assert "warning: The plan was not reached" in kept.err


def test_formats_are_shown(stack: Any) -> None:
    ran = stack.command("export", "formats")
    assert ran.code == 0
    assert "stylegan" in ran.out
    assert "train, test" in ran.out


def test_link_downloads_without_a_key(stack: Any, job: Any) -> None:
    made = stack.command("export", "create", job["id"], "--format", "npz", "--json").json
    link = stack.command("export", "link", made["id"], "--expires", "2m")
    assert link.code == 0, link.err
    content = httpx.get(link.out.strip()).content
    assert hashlib.sha256(content).hexdigest() == made["digest"]
    removed = stack.command("export", "remove", made["id"])
    assert removed.code == 0
    assert httpx.get(link.out.strip()).status_code == 404


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--splits", "train=0.8,test"], "write it as train=0.8"),
        (["--splits", "train=0.8,test=0.1"], "add up to 0.9"),
        (["--indices", "5-7"], "write it as 0:1000"),
        (["--fill", "5", "--add", "6"], "contradict"),
        (["--fill", "5"], "dataset"),
        (["--format", "tiff"], "no export format 'tiff'"),
        (["--license", ""], "license"),
    ],
)
def test_wrong_options_are_usage_errors(
    stack: Any, job: Any, arguments: list[str], told: str
) -> None:
    ran = stack.command("export", "create", job["id"], *arguments)
    assert ran.code == 2
    assert told in ran.err


def test_folder_that_is_no_export_cannot_be_verified(stack: Any, tmp_path: Path) -> None:
    ran = stack.command("verify", str(tmp_path))
    assert ran.code == 1
    assert "has no manifest.json" in ran.err


@pytest.fixture(scope="module")
def squares(stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small dataset whose classes are numbers that are not their places."""
    root = tmp_path_factory.mktemp("squares")
    random = np.random.default_rng(0)
    for split, label in itertools.product(("train", "test"), ("1", "2", "10")):
        folder = root / split / label
        folder.mkdir(parents=True)
        for number in range(3):
            pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    added = stack.command("dataset", "add", "squares", str(root), "--json")
    assert added.code == 0, added.err
    return added.json


@pytest.mark.parametrize("kind", ["idx", "stylegan", "tfrecord", "fiftyone"])
def test_export_given_back_is_the_version_that_it_came_from(
    stack: Any, squares: Any, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "out"
    made = stack.command(
        "export", "create", "--dataset", "squares", "--format", kind, "--out", str(out)
    )
    assert made.code == 0, made.err

    back = stack.command("dataset", "add", "squares", str(out), "--json")

    assert back.code == 0, back.err
    assert (back.json["version"], back.json["digest"]) == (squares["version"], squares["digest"])
    assert back.json["class_names"] == ["1", "2", "10"]
