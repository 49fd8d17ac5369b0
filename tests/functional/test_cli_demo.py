from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from datasets import load_dataset
from PIL import Image
from running import wait_until
from torchvision.datasets import ImageFolder

pytestmark = pytest.mark.xdist_group("demo")


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes whose environment names the folder as their state folder."""
    found = []
    for process in psutil.process_iter():
        try:
            home = process.environ().get("DATAGEN_HOME", "")
        except (psutil.Error, OSError):
            continue
        if home.startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return [one for one in found if one.pid != os.getpid()]


@pytest.fixture(scope="module")
def made(datagen: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """What `datagen demo` leaves, with settings around it that it must not heed."""
    out = tmp_path_factory.mktemp("demo") / "datagen-demo"
    elsewhere = {
        "DATAGEN_URL": "http://127.0.0.1:1",
        "DATAGEN_DATABASE_URL": "sqlite:////nowhere/x.db",
    }
    line = ["demo", "--out", str(out), "--per-label", "30", "--seed", "3", "--json"]
    ran = datagen.run(*line, environment=elsewhere)
    assert ran.code == 0, ran.err
    yield out, ran
    assert processes_of(out) == []


def test_summary_tells_what_was_made(made: tuple[Path, Any]) -> None:
    out, ran = made
    summary = json.loads((out / "summary.json").read_text())
    assert ran.json == summary
    assert set(summary["labels"]) == set("0123456789")
    for label in summary["labels"].values():
        assert label["requested"] == label["stored"] == 30
        assert 0 <= label["mean_score"] <= 1
        assert 0 <= label["agreement"] <= 1
    assert summary["seed"] == 3
    assert summary["images_per_second"] > 0
    assert len(summary["model_digest"]) == 64
    assert set(summary["stage_seconds"]) == {"latents", "decode", "score", "encode", "store"}


def test_exports_open_with_the_usual_loaders_and_agree(made: tuple[Path, Any]) -> None:
    out, _ = made
    folders = ImageFolder(str(out / "imagefolder" / "train"))
    assert folders.classes == list("0123456789")
    assert len(folders) == 300
    table = load_dataset(str(out / "parquet"), split="train", cache_dir=str(out.parent / "cache"))
    assert table.features["label"].names == folders.classes
    by_label: dict[int, list[bytes]] = {}
    for row in table:
        by_label.setdefault(row["label"], []).append(np.asarray(row["image"]).tobytes())
    for path, label in folders.samples:
        with Image.open(path) as image:
            assert np.asarray(image).tobytes() in by_label[label]


def test_contact_sheet_has_a_row_a_label(made: tuple[Path, Any]) -> None:
    with Image.open(made[0] / "contact-sheet.png") as sheet:
        assert sheet.width > 20 * 28
        assert sheet.height > 10 * 28


def test_second_run_says_what_is_there(datagen: Any, made: tuple[Path, Any]) -> None:
    ran = datagen.run("demo", "--out", str(made[0]))
    assert (ran.code, ran.out) == (2, "")
    assert "imagefolder" in ran.err
    assert "--force" in ran.err


def test_interrupted_demo_leaves_no_process(datagen: Any, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    with datagen.start("demo", "--out", str(out), "--per-label", "100000") as command:
        assert command.stderr is not None
        line = command.stderr.readline()
        assert line.startswith("generating: "), line
        command.send_signal(signal.SIGTERM)
        command.communicate(timeout=60)
    assert command.returncode == 143
    wait_until(lambda: not processes_of(out))


def test_killed_demo_leaves_no_process(datagen: Any, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    with datagen.start("demo", "--out", str(out), "--per-label", "100000") as command:
        assert command.stderr is not None
        line = command.stderr.readline()
        assert line.startswith("generating: "), line
        command.kill()
    wait_until(lambda: not processes_of(out))
