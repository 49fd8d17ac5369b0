from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from drawing import JOB

from datagen.export.formats import formats


@pytest.mark.parametrize("name", ["parquet", "imagefolder", "webdataset"])
def test_front_matter_of_the_card_names_the_files_of_every_split(
    name: str, draw: Any, load_dataset: Any, tmp_path: Path
) -> None:
    drawn = draw({"cat": 3, "test": 2}, synthetic={"validation": {"cat": 1}, "test": {"test": 1}})
    drawn.write(name, tmp_path / "set")
    card = huggingface_hub.DatasetCard.load(tmp_path / "set" / "README.md")
    data = card.data.to_dict()
    assert data["task_ids"] == ["multi-class-image-classification"]
    assert data["annotations_creators"] == ["machine-generated"]
    assert data["source_datasets"] == ["original"]
    (config,) = data["configs"]
    assert [entry["split"] for entry in config["data_files"]] == ["train", "validation", "test"]
    loaded = load_dataset(tmp_path / "set")
    assert {split: rows.num_rows for split, rows in loaded.items()} == {
        "train": 5, "validation": 1, "test": 1
    }  # fmt: skip


def test_front_matter_tells_real_images_from_synthetic_ones(draw: Any, tmp_path: Path) -> None:
    draw({"cat": 3}, real={"test": {"cat": 2}}).write("idx", tmp_path)
    data = huggingface_hub.DatasetCard.load(tmp_path / "README.md").data.to_dict()
    assert data["annotations_creators"] == ["machine-generated", "found"]
    assert data["source_datasets"] == ["extended|pets"]
    assert "configs" not in data


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("imagefolder", 'valid="validation"'),
        ("webdataset", "empty_check=False"),
        ("webdataset", "Ray"),
        ("idx", "always the ten digits"),
        ("idx", "ValueError"),
        ("tfrecord", "`label_index` (int64"),
        ("tfrecord", "an index of each file"),
        ("parquet", "drop that metadata"),
    ],
)
def test_card_says_what_the_usual_loaders_need(
    name: str, told: str, draw: Any, tmp_path: Path
) -> None:
    draw({"cat": 1}, shape=(1, 8, 8)).write(name, tmp_path)
    assert told in (tmp_path / "README.md").read_text()


def test_class_without_images_in_a_split_is_warned_of_and_named_in_the_card(
    draw: Any, tmp_path: Path
) -> None:
    drawn = draw({"cat": 2, "dog": 1, "owl": 2}, synthetic={"test": {"owl": 1, "dog": 0}})
    drawn.write("imagefolder", tmp_path)
    layout = formats()["imagefolder"]
    (warning,) = layout.warnings(drawn.names, drawn.info.counts)
    assert warning.startswith("The split test has no images of 'cat' and of 1 more classes:")
    card = (tmp_path / "README.md").read_text()
    assert "- test: cat, dog" in card
    assert 'class_map=str(root / "folders.txt")' in card
    assert not list(formats()["parquet"].warnings(drawn.names, drawn.info.counts))
    # A class behind all that have images shifts no number.
    assert not list(layout.warnings(drawn.names, {"train": np.array([2, 1, 0])}))


def test_card_tells_renamed_folders(draw: Any, tmp_path: Path) -> None:
    draw({"test": 1, "cat": 1}).write("imagefolder", tmp_path)
    assert "| 0 | test | `%74est` |" in (tmp_path / "README.md").read_text()
    assert "| 1 | cat | `cat` |" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "folders.txt").read_text() == "%74est\ncat\n"
    draw({"test": 1, "cat": 1}).write("parquet", tmp_path / "other")
    assert "%74est" not in (tmp_path / "other" / "README.md").read_text()


def test_card_says_how_good_the_generator_is(draw: Any, tmp_path: Path) -> None:
    drawn = draw({"cat": 2, "dog": 1})
    drawn.write("parquet", tmp_path / "none")
    notes = ["Expect soft images.", "Few of '<b>|x' passed."]
    metrics = {"tstr": 0.777, "trtr": 1.0, "chance": 0.25, "notes": notes}
    measured = replace(JOB, metrics=metrics)
    drawn.info = replace(drawn.info, jobs=(measured,))
    drawn.write("parquet", tmp_path / "one")
    card = (tmp_path / "one" / "README.md").read_text()
    assert "| `mine` (version 2) | TSTR | 77.7% | 100.0% | 25.0% |" in card
    assert "- TSTR: Train on synthetic, test on real" in card
    assert "- `mine` (version 2): Expect soft images." in card
    assert "Few of '&lt;b>\\|x' passed." in card
    assert "TSTR" not in (tmp_path / "none" / "README.md").read_text()
