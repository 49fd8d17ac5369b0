from __future__ import annotations

import copy
import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawing import Drawn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from datagen.errors import InvalidFile, InvalidRequest
from datagen.export import parquet
from datagen.pytorch import SyntheticDataset, SyntheticStream

TO_TENSOR = v2.Compose([v2.PILToTensor()])


@pytest.fixture(params=[(1, 6, 5), (3, 4, 7)], ids=["grey", "rgb"])
def drawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Drawn:
    monkeypatch.setattr(parquet, "ROWS_PER_FILE", 300)
    monkeypatch.setattr("datagen.export.writing.PART_ROWS", 100)
    return Drawn({"cat": 300, "dog": 250}, shape=request.param, real={"test": {"dog": 4}})


@pytest.fixture
def export(drawn: Drawn, tmp_path: Path) -> Path:
    drawn.write("parquet", tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def opened(export: Path, tmp_path: Path) -> Any:
    def open_as(kind: Any, split: str = "train", **options: Any) -> Any:
        return kind(export, split, TO_TENSOR, cache=tmp_path / "cache", **options)

    return open_as


def test_rows_are_at_hand_by_number(opened: Any, drawn: Drawn) -> None:
    images = opened(SyntheticDataset)
    assert (len(images), images.classes) == (550, ["cat", "dog"])
    assert images.class_to_idx == {"cat": 0, "dog": 1}
    assert np.array_equal(images.targets, drawn.labels)
    for number in (0, 299, 300, 549, -1):
        pixels, label = images[number]
        assert np.array_equal(pixels.numpy(), drawn.images[number])
        assert label == drawn.labels[number]
    for number in (550, -551):
        with pytest.raises(IndexError):
            images[number]


def test_images_without_transform_are_pictures(export: Path, drawn: Drawn, tmp_path: Path) -> None:
    images = SyntheticDataset(export, cache=tmp_path / "cache", target_transform=str)
    picture, label = images[400]
    assert label == "1"
    assert picture.mode == ("L" if drawn.images.shape[1] == 1 else "RGB")


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_every_row_once(opened: Any, drawn: Drawn, workers: int) -> None:
    for kind in (SyntheticDataset, SyntheticStream):
        loader = DataLoader(opened(kind), batch_size=64, num_workers=workers)
        found = torch.cat([pixels for pixels, _ in loader]).numpy()
        assert sorted(map(bytes, found)) == sorted(map(bytes, drawn.images))


def test_stream_keeps_the_order_or_shuffles_by_seed_and_epoch(opened: Any, drawn: Drawn) -> None:
    def order(stream: Any) -> list[str]:
        return [hashlib.sha256(pixels.numpy().tobytes()).hexdigest() for pixels, _ in stream]

    plain = [hashlib.sha256(image.tobytes()).hexdigest() for image in drawn.images]
    assert order(opened(SyntheticStream)) == plain
    one, same = (opened(SyntheticStream, shuffle_buffer=50, seed=3) for _ in range(2))
    first = order(one)
    assert first == order(same)
    assert sorted(first) == sorted(plain)
    assert first != plain
    assert order(one) != first


def test_other_splits_are_read(opened: Any) -> None:
    assert len(opened(SyntheticDataset, "test")) == 4
    assert [label for _, label in opened(SyntheticStream, "test")] == [1] * 4
    with pytest.raises(InvalidRequest, match="no split 'validation'; it has train, test"):
        opened(SyntheticDataset, "validation")


def test_copy_survives_the_export_and_travels_to_workers(
    opened: Any, export: Path, drawn: Drawn
) -> None:
    # What a DataLoader does for its workers.
    images = copy.deepcopy(opened(SyntheticDataset))
    shutil.rmtree(export / "data")
    assert np.array_equal(images[7][0].numpy(), drawn.images[7])


def test_what_is_no_parquet_export_is_refused(drawn: Drawn, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="has no manifest"):
        SyntheticDataset(tmp_path)
    with pytest.raises(InvalidFile, match="has no manifest"):
        SyntheticDataset("nowhere/at/all")
    drawn.write("npz", tmp_path / "npz")
    with pytest.raises(InvalidFile, match="in the format 'npz'"):
        SyntheticStream(tmp_path / "npz")
    (tmp_path / "npz" / "manifest.json").write_text("{")
    with pytest.raises(InvalidFile, match="damaged"):
        SyntheticDataset(tmp_path / "npz")


def test_missing_and_damaged_files_are_named(opened: Any, export: Path, tmp_path: Path) -> None:
    _, second = sorted((export / "data").glob("train-*"))
    data = second.read_bytes()
    second.write_bytes(data[:-30])
    with pytest.raises(InvalidFile, match="is damaged"):
        opened(SyntheticDataset)
    assert not list((tmp_path / "cache" / "arrow").iterdir())
    second.unlink()
    with pytest.raises(InvalidFile, match="are missing"):
        opened(SyntheticStream)
    with pytest.raises(InvalidRequest, match="shuffle_buffer is -1"):
        opened(SyntheticStream, "test", shuffle_buffer=-1)
