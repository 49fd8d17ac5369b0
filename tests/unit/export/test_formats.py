from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import InvalidFile, InvalidRequest
from datagen.export.formats import FORMATS, known_format, write_export
from datagen.export.sinks import FolderSink, ZipSink
from datagen.shards import SampleBatch


def _digest(name: str, drawn: Any, batch_size: int) -> str:
    out = io.BytesIO()
    with ZipSink(out) as sink:
        write_export(name, drawn.batches(batch_size), drawn.info, sink)
    return hashlib.sha256(out.getvalue()).hexdigest()


def test_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(
        InvalidRequest, match=r"no export format 'tiff'.*imagefolder, parquet"
    ) as no:
        known_format("tiff")
    assert no.value.field == "format"


@pytest.mark.parametrize("name", FORMATS)
def test_same_samples_give_the_same_bytes_whatever_the_batches(name: str, draw: Any) -> None:
    drawn = draw({"a": 300, "b": 281})
    assert _digest(name, drawn, 64) == _digest(name, drawn, 1000) == _digest(name, drawn, 1)


@pytest.mark.parametrize("name", FORMATS)
def test_manifest_comes_last_and_names_every_other_file(
    name: str, drawn: Any, tmp_path: Path
) -> None:
    with FolderSink(tmp_path) as sink:
        write_export(name, drawn.batches(), drawn.info, sink)
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
    assert manifest["class_names"] == ["cat", "dog", "owl"]
    assert manifest["model"] == {"name": "mine", "version": 2, "digest": "ab" * 32}
    assert (manifest["seed"], manifest["temperature"]) == (9, 0.75)
    assert manifest["job"]["request"]["labels"] == {"cat": 4, "dog": 9, "owl": 5}
    assert manifest["created_at"] == "2026-03-04T05:06:07+00:00"
    assert manifest["partial"] is False


@pytest.mark.parametrize("total", [17, 19])
@pytest.mark.parametrize("name", FORMATS)
def test_other_than_the_promised_number_is_an_error(
    name: str, total: int, drawn: Any, tmp_path: Path
) -> None:
    drawn.info = replace(drawn.info, images_total=total)
    with pytest.raises(InvalidFile, match=f"should have {total} images and the shards hold 18"):
        drawn.write(name, tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_sample_that_comes_twice_is_an_error(drawn: Any, tmp_path: Path) -> None:
    def twice() -> Iterator[SampleBatch]:
        yield drawn.batch(0, 9)
        yield drawn.batch(8, 17)

    with FolderSink(tmp_path) as sink, pytest.raises(InvalidFile, match="each sample once"):
        write_export("parquet", twice(), drawn.info, sink)


def test_card_carries_front_matter_counts_and_origin(draw: Any, tmp_path: Path) -> None:
    drawn = draw({"a|b": 2, "<script>": 1}, licence="cc-by-4.0", partial=True)
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


def test_writing_exports_needs_no_torch() -> None:
    code = (
        "import sys, datagen.export.formats, datagen.export.unpacking; assert 'torch' not in "
        "sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
