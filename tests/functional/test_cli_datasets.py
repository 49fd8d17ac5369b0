from __future__ import annotations

import gzip
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.xdist_group("stack")

SIZE = 8


def write_folders(root: Path, per_label: int = 40) -> Path:
    """Two labels that differ at a glance: a bright left half and a bright right half."""
    noise = np.random.default_rng(0)
    for label in ("left", "right"):
        for number in range(per_label):
            image = noise.integers(0, 60, (SIZE, SIZE), np.uint8)
            half = slice(0, SIZE // 2) if label == "left" else slice(SIZE // 2, SIZE)
            image[:, half] += 150
            path = root / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return root


def write_idx(root: Path, *, zipped: bool) -> Path:
    root.mkdir()
    images, labels = np.arange(20 * 64, dtype=np.uint8), np.arange(20, dtype=np.uint8) % 2
    files = {
        "train-images-idx3-ubyte": struct.pack(">IIII", 0x0803, 20, SIZE, SIZE) + images.tobytes(),
        "train-labels-idx1-ubyte": struct.pack(">II", 0x0801, 20) + labels.tobytes(),
    }
    for name, content in files.items():
        if zipped:
            (root / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (root / name).write_bytes(content)
    return root


def test_folders_are_packed_uploaded_and_shown(stack: Any, tmp_path: Path) -> None:
    ran = stack.command("dataset", "add", "halves", str(write_folders(tmp_path / "src")), "--json")
    assert ran.code == 0, ran.err
    assert ran.json["class_names"] == ["left", "right"]
    assert sum(map(sum, ran.json["counts"].values())) == 80
    shown = stack.command("dataset", "show", "halves", "--json")
    assert shown.json == ran.json
    assert "halves" in stack.command("dataset", "list").out


def test_dry_run_prints_what_would_be_registered_and_registers_nothing(
    stack: Any, tmp_path: Path
) -> None:
    source = write_folders(tmp_path / "src", per_label=10)
    (source / "left" / "notes.npy").touch()

    ran = stack.command("dataset", "add", "--dry-run", str(source))
    assert ran.code == 0, ran.err
    assert "imagefolder" in ran.out
    assert all(word in ran.out for word in ("left", "right", "train", "validation", "test"))
    assert "note: Files in the folder 'left' that are no pictures" in ran.err
    planned = stack.command("dataset", "add", "--dry-run", "dry", str(source), "--json").json
    assert stack.command("dataset", "show", "dry").code == 1
    added = stack.command("dataset", "add", "dry", str(source), "--json").json
    for key in ("class_names", "counts", "image_shape"):
        assert added[key] == planned[key]
    assert added["report"]["notes"] == planned["report"]["notes"]
    sample = stack.command("dataset", "add", "--dry-run", "sample:mnist", "--json").json
    assert sum(sample["counts"]["train"]) == 6000


def test_source_that_is_missing_is_a_usage_error(stack: Any) -> None:
    ran = stack.command("dataset", "add", "pets")
    assert (ran.code, "No source was given for the dataset 'pets'" in ran.err) == (2, True)


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_taken_gzipped_or_not(stack: Any, tmp_path: Path, zipped: bool) -> None:
    source = write_idx(tmp_path / "idx", zipped=zipped)
    ran = stack.command("dataset", "add", "idx", str(source), "--json")
    assert ran.code == 0, ran.err
    assert ran.json["counts"] == {"train": [10, 10]}


def test_bad_source_is_refused_in_one_line(stack: Any, tmp_path: Path) -> None:
    truncated = write_idx(tmp_path / "cut", zipped=False)
    images = truncated / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-5])
    broken = write_folders(tmp_path / "broken", per_label=2)
    (broken / "left" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (tmp_path / "empty").mkdir()
    for source in (truncated, broken, tmp_path / "empty", tmp_path / "nowhere"):
        ran = stack.command("dataset", "add", "bad", str(source))
        assert ran.code in {1, 2}
        assert ran.err.splitlines()[-1].startswith("error: ")
        assert ran.out == ""
    assert stack.http.get("/v1/datasets/bad").status_code == 404


def test_training_is_followed_and_its_model_generates(stack: Any, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "src", per_label=100)
    assert stack.command("dataset", "add", "train-me", str(source)).code == 0
    ran = stack.command(
        "train", "halver", "--dataset", "train-me", "--epochs", "1", "--refine-epochs", "0",
        "--judge-epochs", "1", "--width", "8", "--latent-dim", "2", "--seed", "1", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["state"] == "succeeded"
    assert ran.json["class_names"] == ["left", "right"]
    assert "training: " in ran.err
    made = stack.command("generate", "--model", "halver", "--labels", "left=3", "--json")
    assert (made.code, made.json["images_stored"]) == (0, 3)
    unknown = stack.command("generate", "--model", "halver", "--labels", "3=3")
    assert unknown.code == 2
    assert "left, right" in unknown.err


def test_training_starts_from_an_earlier_model_and_its_neighbours_have_a_strength(
    stack: Any, tmp_path: Path
) -> None:
    source = write_folders(tmp_path / "src", per_label=100)
    assert stack.command("dataset", "add", "warm", str(source)).code == 0
    few = ("--epochs", "1", "--refine-epochs", "0", "--judge-epochs", "1", "--json")
    sizes = ("--width", "8", "--latent-dim", "2")
    first = stack.command("train", "cold", "--dataset", "warm", *sizes, *few)
    assert first.code == 0, first.err
    second = stack.command("train", "hot", "--dataset", "warm", "--from", "cold", *few)
    assert second.code == 0, second.err
    assert second.json["parent"]["name"] == "cold"
    assert second.json["config"]["width"] == 8
    shown = stack.command("model", "show", "hot")
    assert "cold@1" in shown.out
    assert "TSTR" in shown.out
    refused = stack.command("train", "x", "--dataset", "warm", "--from", "cold", "--width", "16")
    assert refused.code == 2
    assert "'width' is 16, and the model to start from has 8" in refused.err
    stranger = stack.command("train", "x", "--dataset", "warm", "--from", "mnist")
    assert stranger.code == 2
    assert "shape" in stranger.err

    near = stack.command(
        "generate", "--model", "hot", "--per-label", "2", "--sampler", "neighbour",
        "--strength", "0.25", "--no-gate", "--json",
    )  # fmt: skip
    assert (near.code, near.json["strength"], near.json["images_stored"]) == (0, 0.25, 4)


def test_sources_of_other_kinds_are_added(stack: Any, tmp_path: Path) -> None:
    folders = write_folders(tmp_path / "src", per_label=10)
    shutil.make_archive(str(tmp_path / "packed"), "zip", folders)
    rows = [f"{path.relative_to(folders)},{path.parent.name}" for path in folders.rglob("*.png")]
    (folders / "labels.csv").write_text("file,label\n" + "\n".join(rows))
    digests = []
    for number, source in enumerate((tmp_path / "packed.zip", folders / "labels.csv", folders)):
        ran = stack.command("dataset", "add", f"kind{number}", str(source), "--json")
        assert ran.code == 0, ran.err
        digests.append(ran.json["digest"])
        assert sum(map(sum, ran.json["counts"].values())) == 20
    assert stack.command("dataset", "show", "kind0", "--json").json["report"]["source"] == (
        "imagefolder"
    )
    assert len(digests) == 3


def test_options_notes_and_the_picture_are_for_people_too(stack: Any, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "src", per_label=10)
    (source / "left" / "bad.png").write_bytes(b"bad")
    refused = stack.command("dataset", "add", "people", str(source))
    assert (refused.code, refused.out) == (1, "")
    assert "left/bad.png" in refused.err
    ran = stack.command(
        "dataset", "add", "people", str(source), "--on-error", "skip", "--size", "12", "--pad",
        "--split", "train=0.5,validation=0.5",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "1x12x12" in ran.out
    assert "note: The data came without splits" in ran.err
    assert "skipped: left/bad.png" in ran.err
    picture = tmp_path / "balance.png"
    shown = stack.command("dataset", "show", "people", "--picture", str(picture))
    assert shown.code == 0, shown.err
    with Image.open(picture) as image:
        assert image.width > 300
    for wrong in (["--size", "0"], ["--pad"], ["--split", "half"], ["--on-error", "maybe"]):
        assert stack.command("dataset", "add", "people", str(source), *wrong).code == 2


def test_removing_asks_for_what_is_meant(stack: Any, tmp_path: Path) -> None:
    for number in (4, 5):
        source = write_folders(tmp_path / f"src{number}", per_label=number)
        assert stack.command("dataset", "add", "going", str(source)).code == 0
    both = stack.command("dataset", "remove", "going")
    assert both.code == 1
    assert "going@1, going@2" in both.err
    assert stack.command("dataset", "remove", "going@1").code == 0
    assert stack.command("dataset", "remove", "going", "--json").json == {"removed": "going"}
    assert stack.command("dataset", "show", "going").code == 1


def test_torchvision_datasets_are_fetched_by_name(stack: Any) -> None:
    ran = stack.command("dataset", "add", "fake", "torchvision:Nothing")
    assert ran.code == 2
    assert "torchvision has no dataset 'Nothing'; it has" in ran.err
    # Made up by torchvision itself, so no network is needed.
    ran = stack.command("dataset", "add", "fake", "torchvision:FakeData", "--size", "16", "--json")
    assert ran.code == 0, ran.err
    assert sum(map(sum, ran.json["counts"].values())) == 1000
    assert ran.json["image_shape"] == [3, 16, 16]


def test_class_without_training_images_is_left_out_from_the_dataset_to_the_job(
    stack: Any, tmp_path: Path
) -> None:
    source = write_idx(tmp_path / "letters", zipped=False)
    labels = (np.arange(20) % 3 + 1).astype(np.uint8)
    path = source / "train-labels-idx1-ubyte"
    path.write_bytes(struct.pack(">II", 0x0801, 20) + labels.tobytes())
    added = stack.command("dataset", "add", "letters", str(source), "--json")
    assert added.code == 0, added.err
    assert any("no image to train on: '0';" in note for note in added.json["report"]["notes"])
    trained = stack.command(
        "train", "letters", "--dataset", "letters", "--preset", "small", "--epochs", "1",
        "--judge-epochs", "1", "--no-refine", "--json",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    assert trained.json["metrics"]["training_images_per_class"][0] == 0
    every = ("generate", "--model", "letters", "--per-label", "2", "--no-gate")
    said = "The model letters@1 had no training images of '0'; this class is left out."
    dry = stack.command(*every, "--dry-run")
    made = stack.command(*every)
    assert (dry.code, made.code) == (0, 0), made.err
    assert said in dry.err
    assert said in made.err
    named = ("generate", "--model", "letters", "--labels", "0=1", "--no-gate")
    for options in ((), ("--dry-run",)):
        refused = stack.command(*named, *options)
        assert refused.code == 2
        assert "no training images of '0'" in refused.err
