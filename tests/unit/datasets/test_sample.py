from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from datagen.bundled import SAMPLE
from datagen.datasets.sample import load_sample
from datagen.errors import InvalidFile


def test_sample_holds_each_digit_in_its_share():
    sample = load_sample()

    assert {split: len(images) for split, images in sample.items()} == {"train": 6000, "test": 1000}
    assert sample["train"].class_names == tuple("0123456789")
    assert sample["train"].image_shape == (1, 28, 28)
    # A tenth of MNIST's own counts.
    assert sample["train"].counts().tolist() == [592, 674, 596, 613, 584, 542, 592, 627, 585, 595]
    assert sample["test"].counts().tolist() == [98, 114, 103, 101, 98, 89, 96, 103, 97, 101]


def test_sample_is_small_and_says_where_it_comes_from():
    origin = json.loads(pq.read_schema(SAMPLE).metadata[b"datagen"])

    assert SAMPLE.stat().st_size < 3_000_000
    assert "CC BY-SA 3.0" in origin["license"]
    assert "LeCun" in str(origin["creators"])


def test_sample_opens_in_the_usual_loader(tmp_path):
    from datasets import ClassLabel, load_dataset  # noqa: PLC0415 - slow to load

    rows = load_dataset(
        "parquet", data_files=str(SAMPLE), split="train", cache_dir=str(tmp_path / "cache")
    )

    assert isinstance(rows.features["label"], ClassLabel)
    assert rows[0]["image"].size == (28, 28)
    assert (rows[0]["split"], rows[6999]["split"]) == ("train", "test")


def test_damaged_sample_is_refused(tmp_path):
    path = tmp_path / "sample.parquet"
    for content in (None, b"", SAMPLE.read_bytes()[:1000]):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InvalidFile, match=r"sample\.parquet"):
            load_sample(path)
