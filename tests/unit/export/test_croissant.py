from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import mlcroissant
import pytest
from drawing import check_images

from datagen.export.formats import formats


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.filterwarnings(
    "ignore:ConjunctiveGraph:DeprecationWarning", "ignore:The inplace keyword:Warning"
)
@pytest.mark.parametrize("name", formats())
def test_croissant_is_valid_and_reads_every_record(name: str, whole: Any, tmp_path: Path) -> None:
    if name == "idx" and (whole.info.image_shape[0] == 3 or "validation" in whole.info.counts):
        return
    whole.write(name, tmp_path)
    dataset = mlcroissant.Dataset(str(tmp_path / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    sets = {
        record.id: [
            {key.partition("/")[2]: _text(value) for key, value in row.items()}
            for row in dataset.records(record.id)
        ]
        for record in dataset.metadata.record_sets
    }
    assert [(row["label"], row["name"]) for row in sets.pop("labels")] == list(
        enumerate(whole.names)
    )
    counts = whole.info.counts
    assert {row["name"]: row["images"] for row in sets.pop("splits")} == {
        split: own.sum() for split, own in counts.items()
    }
    if name not in {"fiftyone", "imagefolder", "parquet"}:
        assert not sets
        return
    joined = _joined(name, sets.pop("images"), sets.pop("metadata", []), tmp_path)
    assert not sets
    assert len(joined) == whole.info.images_total
    for split in counts:
        check_images(
            ((row["image"], row["label"]) for row in joined if row["split"] == split), whole, split
        )


def _joined(
    name: str, images: list[dict[str, Any]], told: list[dict[str, Any]], root: Path
) -> list[dict[str, Any]]:
    """The images with their labels, by the fields that the set's description names."""
    if name == "parquet":
        return images
    key = {"imagefolder": ("split", "file_name"), "fiftyone": ("file",)}[name]
    labels = {tuple(row[part] for part in key): row for row in told}
    assert len(labels) == len(told) == len(images)
    found = []
    for row in images:
        assert row["file"].startswith(f"{row['split']}/")
        other = labels[tuple(row[part] for part in key)]
        assert other["split"] == row["split"]
        assert other["digest"] == hashlib.sha256((root / row["file"]).read_bytes()).hexdigest()
        found.append(other | row)
    return found


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph:DeprecationWarning")
def test_croissant_says_where_the_images_come_from(draw: Any, tmp_path: Path) -> None:
    drawn = draw({"a": 2}, real={"train": {"a": 1}}, licence="cc-by-4.0")
    drawn.write("parquet", tmp_path / "mixed")
    kept = mlcroissant.Dataset(str(tmp_path / "mixed" / "croissant.json")).metadata.to_json()
    assert kept["rai:hasSyntheticData"] is True
    assert kept["license"] == "https://spdx.org/licenses/CC-BY-4.0.html"
    job, model = drawn.info.jobs[0].job_id, drawn.info.jobs[0].model_digest
    assert kept["prov:wasGeneratedBy"]["@id"] == f"urn:datagen:job:{job}"
    assert kept["prov:wasGeneratedBy"]["@type"] == "prov:Activity"
    assert {entity["@id"] for entity in kept["prov:wasDerivedFrom"]} == {
        f"urn:datagen:model:{model}",
        f"urn:datagen:dataset:{'cd' * 32}",
    }

    draw({"a": 0}, synthetic={"train": {"a": 0}}, real={"train": {"a": 3}}, jobs=()).write(
        "parquet", tmp_path / "real"
    )
    kept = json.loads((tmp_path / "real" / "croissant.json").read_text())
    assert kept["rai:hasSyntheticData"] is False
    assert kept["license"] == "unknown"
    assert "prov:wasGeneratedBy" not in kept
