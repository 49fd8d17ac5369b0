from __future__ import annotations

import gzip
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
