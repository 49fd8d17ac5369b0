"""Every export is reopened by the loaders that its users have, and compared image by image."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from torchvision.datasets import ImageFolder

from datagen.export import parquet
from datagen.export.formats import FORMATS

CASES: dict[str, dict[str, int]] = {
    "ordinary": {"cat": 4, "dog": 9, "owl": 5},
    "one class": {"scratch": 6},
    "twelve classes named by number": {str(number): 2 for number in range(12)},
    "class named like a split": {"cat": 2, "test": 3, "my-val": 2},
    "odd names": {"a/b": 2, "..": 1, "ä": 2, "x" * 300: 1, "cat": 2, "Cat": 1, "[*]": 1, "eval": 1},
    "class without images": {"cat": 3, "dog": 0, "owl": 2},
}
SHAPES = [(1, 6, 5), (3, 4, 7)]


@pytest.fixture(params=SHAPES, ids=["grey", "rgb"])
def shape(request: pytest.FixtureRequest) -> tuple[int, int, int]:
    size: tuple[int, int, int] = request.param
    return size


def _pixels(image: Any) -> np.ndarray:
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", FORMATS)
def test_datasets_library_reads_labels_names_and_pixels(
    name: str, case: str, shape: tuple[int, int, int], draw: Any, load_dataset: Any, tmp_path: Path
) -> None:
    drawn = draw(CASES[case], shape=shape)
    drawn.write(name, tmp_path / "set")
    loaded = load_dataset(tmp_path / "set")
    assert list(loaded) == ["train"]
    rows = loaded["train"]
    assert rows.features["label"].names == list(drawn.names)
    order = np.argsort(rows["index"])
    assert np.array_equal(np.array(rows["label"])[order], drawn.labels)
    assert sorted(rows["index"]) == list(range(len(drawn.labels)))
    for row in rows:
        assert np.array_equal(_pixels(row["image"]), drawn.images[row["index"]])


@pytest.mark.parametrize("name", FORMATS)
def test_datasets_library_reads_where_each_image_comes_from(
    name: str, drawn: Any, load_dataset: Any, tmp_path: Path
) -> None:
    drawn.write(name, tmp_path / "set")
    row = next(row for row in load_dataset(tmp_path / "set")["train"] if row["index"] == 7)
    assert {key: row[key] for key in row if key not in {"image", "file_name"}} == {
        "label": 1,
        "index": 7,
        "seed": 9,
        "attempt": 0,
        "score": pytest.approx(0.7059),
        "judged_label": 1,
        "sampler": "prior",
        "first_source": None,
        "second_source": None,
        "digest": hashlib.sha256(drawn.files[7]).hexdigest(),
        "model": "ab" * 32,
    }


@pytest.mark.parametrize("case", CASES)
def test_torchvision_reads_the_class_folders(
    case: str, shape: tuple[int, int, int], draw: Any, tmp_path: Path
) -> None:
    drawn = draw(CASES[case], shape=shape)
    drawn.write("imagefolder", tmp_path)
    folder = ImageFolder(str(tmp_path / "train"))
    there = [label for label, count in enumerate(CASES[case].values()) if count]
    assert len(folder.classes) == len(there)
    assert len(folder) == len(drawn.labels)
    found = {}
    for path, label in folder.samples:
        index = int(Path(path).stem)
        image, _ = folder[folder.samples.index((path, label))]
        channels = drawn.images.shape[1]
        assert np.array_equal(_pixels(image)[:channels], drawn.images[index])
        found[index] = label
    # Folders are numbered in the order of their names; each stands for one class of ours.
    pairs = {(found[index], int(label)) for index, label in enumerate(drawn.labels)}
    assert len(pairs) == len(there)


def test_torchvision_numbers_classes_named_by_number_as_we_do(draw: Any, tmp_path: Path) -> None:
    drawn = draw(CASES["twelve classes named by number"])
    drawn.write("imagefolder", tmp_path)
    folder = ImageFolder(str(tmp_path / "train"))
    for path, label in folder.samples:
        assert label == drawn.labels[int(Path(path).stem)]


def test_card_tells_renamed_folders(draw: Any, tmp_path: Path) -> None:
    draw({"test": 1, "cat": 1}).write("imagefolder", tmp_path)
    assert "| test | `%74est` |" in (tmp_path / "README.md").read_text()
    draw({"test": 1, "cat": 1}).write("parquet", tmp_path / "other")
    assert "%74est" not in (tmp_path / "other" / "README.md").read_text()


def test_parquet_is_cut_into_numbered_files(
    drawn: Any, load_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datagen.export.formats.PART_ROWS", 4)
    monkeypatch.setattr(parquet, "ROWS_PER_FILE", 8)
    drawn.write("parquet", tmp_path / "set")
    files = sorted((tmp_path / "set" / "data").iterdir())
    assert [file.name for file in files] == [
        f"train-0000{number}-of-00003.parquet" for number in range(3)
    ]
    assert [pq.ParquetFile(file).metadata.num_rows for file in files] == [8, 8, 2]
    assert load_dataset(tmp_path / "set")["train"]["index"][:] == list(range(18))


def test_parquet_has_row_groups_that_are_cheap_to_fetch(draw: Any, tmp_path: Path) -> None:
    draw({"a": 600}).write("parquet", tmp_path)
    metadata = pq.ParquetFile(tmp_path / "data" / "train-00000-of-00001.parquet").metadata
    rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert rows == [250, 250, 100]
