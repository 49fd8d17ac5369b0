from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datagen.datasets import parquet_rows as module
from datagen.datasets.parquet_rows import parquet_rows
from datagen.errors import InvalidFile

PEAK = """
import resource, sys
from pathlib import Path
from datagen.datasets.parquet_rows import parquet_rows
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sizes = [len(row["image"]["bytes"]) for row in parquet_rows(Path(sys.argv[1]), ["image", "label"])]
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(len(sizes), sum(sizes), grown)
"""


def test_value_that_a_dictionary_repeats_is_in_memory_once(tmp_path):
    images = pa.StructArray.from_arrays([pa.array([bytes(1 << 20)] * 200)], ["bytes"])
    pq.write_table(pa.table({"image": images, "label": ["a"] * 200}), tmp_path / "x.parquet")
    command = [sys.executable, "-c", PEAK, str(tmp_path / "x.parquet")]
    count, size, grown = map(int, subprocess.check_output(command, text=True).split())
    assert (count, size) == (200, 200 << 20)
    assert grown < 40_000


def test_rows_come_as_they_were_written(tmp_path):
    rows = [
        {"image": {"bytes": b"x", "path": "a.png"}, "label": 1, "tags": ["p", "q"], "text": "t"},
        {"image": None, "label": None, "tags": None, "text": None},
        {"image": {"bytes": None, "path": None}, "label": 3, "tags": [], "text": "t"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet", row_group_size=2)
    assert list(parquet_rows(tmp_path / "x.parquet")) == rows
    assert list(parquet_rows(tmp_path / "x.parquet", ["label"])) == [
        {"label": row["label"]} for row in rows
    ]


def test_value_larger_than_any_picture_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_PICTURE", 100)
    pq.write_table(pa.table({"image": [b"x", bytes(101)]}), tmp_path / "x.parquet")
    with pytest.raises(InvalidFile, match="101 bytes"):
        list(parquet_rows(tmp_path / "x.parquet"))
