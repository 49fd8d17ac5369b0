from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from datagen.export import parquet


def test_parquet_is_cut_into_numbered_files(
    drawn: Any, load_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datagen.export.writing.PART_ROWS", 4)
    monkeypatch.setattr(parquet, "ROWS_PER_FILE", 7)
    drawn.write("parquet", tmp_path / "set")
    files = sorted((tmp_path / "set" / "data").iterdir())
    assert [file.name for file in files] == [
        f"train-0000{number}-of-00003.parquet" for number in range(3)
    ]
    assert [pq.ParquetFile(file).metadata.num_rows for file in files] == [7, 7, 4]
    assert load_dataset(tmp_path / "set")["train"]["index"][:] == list(range(18))


def test_parquet_has_row_groups_that_are_cheap_to_fetch(draw: Any, tmp_path: Path) -> None:
    draw({"a": 2100}).write("parquet", tmp_path)
    metadata = pq.ParquetFile(tmp_path / "data" / "train-00000-of-00001.parquet").metadata
    rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert rows == [1000, 1000, 100]
