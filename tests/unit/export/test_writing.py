from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datagen.errors import InvalidFile
from datagen.export.formats import formats
from datagen.export.rows import Split
from datagen.export.sinks import FolderSink, ZipSink
from datagen.export.writing import write_export

# Grey, square and of a power of two: every format holds it.
SHAPE = (1, 8, 8)
FORMATS = list(formats())


@pytest.fixture
def drawn(draw: Any) -> Any:
    return draw({"cat": 4, "dog": 9, "owl": 5}, shape=SHAPE)


def _digest(name: str, drawn: Any, batch_size: int) -> str:
    out = io.BytesIO()
    with ZipSink(out) as sink:
        write_export(name, drawn.splits(batch_size), drawn.info, sink)
    return hashlib.sha256(out.getvalue()).hexdigest()


@pytest.mark.parametrize("name", FORMATS)
def test_same_samples_give_the_same_bytes_whatever_the_batches(name: str, draw: Any) -> None:
    drawn = draw({"a": 300, "b": 281}, shape=SHAPE, real={"train": {"a": 40}, "test": {"b": 3}})
    assert _digest(name, drawn, 64) == _digest(name, drawn, 1000) == _digest(name, drawn, 1)


@pytest.mark.parametrize("name", FORMATS)
def test_manifest_comes_last_and_names_every_other_file(
    name: str, drawn: Any, tmp_path: Path
) -> None:
    with FolderSink(tmp_path) as sink:
        write_export(name, drawn.splits(), drawn.info, sink)
        written = {entry.path: entry for entry in sink.entries()}
    assert list(written)[-1] == "manifest.json"
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert set(manifest["files"]) == set(written) - {"manifest.json"}
    for path, entry in manifest["files"].items():
        data = (tmp_path / path).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_manifest_says_where_the_images_come_from(drawn: Any, tmp_path: Path) -> None:
    returned = drawn.write("parquet", tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["files"]
    assert manifest == json.loads(json.dumps(returned))
    assert manifest["counts"] == {"train": {"cat": 4, "dog": 9, "owl": 5}}
    assert manifest["synthetic"] == manifest["counts"]
    assert manifest["class_names"] == ["cat", "dog", "owl"]
    (job,) = manifest["jobs"]
    assert job["model"] == {"name": "mine", "version": 2, "digest": "ab" * 32}
    assert (job["seed"], job["temperature"]) == (9, 0.75)
    assert job["request"]["labels"] == {"cat": 4}
    assert manifest["created_at"] == "2026-03-04T05:06:07+00:00"
    assert manifest["partial"] is False
    assert manifest["dataset"] is None


def test_manifest_tells_real_images_apart(draw: Any, tmp_path: Path) -> None:
    drawn = draw({"cat": 4, "dog": 2}, real={"train": {"dog": 3}, "test": {"cat": 1}})
    manifest = drawn.write("parquet", tmp_path)
    assert manifest["counts"] == {"train": {"cat": 4, "dog": 5}, "test": {"cat": 1, "dog": 0}}
    assert manifest["synthetic"] == {"train": {"cat": 4, "dog": 2}, "test": {"cat": 0, "dog": 0}}
    assert manifest["dataset"] == {"name": "pets", "version": 3, "digest": "cd" * 32}


def test_many_files_are_listed_in_a_table(
    drawn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datagen.export.manifest.MOST_LISTED", 10)
    drawn.write("imagefolder", tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert list(manifest["files"]) == ["files.parquet"]
    assert manifest["files_in"] == "files.parquet"
    assert manifest["files_count"] == 18 + 6


@pytest.mark.parametrize("more", [1, -1])
@pytest.mark.parametrize("name", FORMATS)
def test_other_than_the_promised_number_is_an_error(
    name: str, more: int, drawn: Any, tmp_path: Path
) -> None:
    info = replace(drawn.info, synthetic={"train": [4 + more, 9, 5]})
    with FolderSink(tmp_path) as sink, pytest.raises(InvalidFile, match=f"should have {18 + more}"):
        write_export(name, drawn.splits(), info, sink)
    assert not (tmp_path / "manifest.json").exists()


def test_sample_that_comes_twice_is_an_error(drawn: Any, tmp_path: Path) -> None:
    part = drawn.parts["train"][0]
    twice = Split("train", np.array([4, 9, 5]), iter([part.rows(0, 9), part.rows(8, 17)]))
    with FolderSink(tmp_path) as sink, pytest.raises(InvalidFile, match="each sample once"):
        write_export("parquet", [twice], drawn.info, sink)


def test_card_carries_front_matter_counts_and_origin(draw: Any, tmp_path: Path) -> None:
    drawn = draw({"a|b": 2, "<script>": 1}, licence="cc-by-4.0")
    drawn.info = replace(drawn.info, jobs=(replace(drawn.info.jobs[0], partial=True),))
    drawn.write("parquet", tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith('---\nlicense: "cc-by-4.0"\n')
    assert 'size_categories: ["n<1K"]' in card
    assert "| a\\|b | 2 |" in card
    assert "<script>" not in card
    assert "did not finish" in card
    assert "seed 9, sampler `prior`, temperature 0.75" in card
    assert "of 2026-03-04" in card
    assert re.search(r"load_dataset\(", card)
    assert "stand in" not in card


def test_card_warns_of_synthetic_images_that_measure(draw: Any, tmp_path: Path) -> None:
    drawn = draw({"a": 2}, synthetic={"test": {"a": 1}}, real={"train": {"a": 5}})
    drawn.write("parquet", tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "Synthetic images stand in test" in card
    assert "| label | train, real | train, synthetic | test, real | test, synthetic |" in card
    assert "| a | 5 | 2 | 0 | 1 |" in card


def test_contact_sheet_shows_classes_and_kinds_in_rows(draw: Any, tmp_path: Path) -> None:
    draw({"a": 40, "b": 2, "c": 0}, real={"train": {"a": 5}}).write("parquet", tmp_path)
    with Image.open(tmp_path / "contact-sheet.png") as mixed:
        mixed.load()
    draw({"a": 40, "b": 2, "c": 0}).write("parquet", tmp_path / "plain")
    with Image.open(tmp_path / "plain" / "contact-sheet.png") as plain:
        plain.load()
    # Rows of at least twenty pixels: real a, synthetic a, synthetic b; without real ones two.
    assert mixed.height - plain.height >= 20


def test_writing_exports_needs_no_torch() -> None:
    code = (
        "import sys, datagen.export.writing, datagen.export.unpacking; assert 'torch' not in "
        "sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
