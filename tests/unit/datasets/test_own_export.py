"""Our own exports, given back: each is the dataset that it was, whatever its classes are called."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from reading import WHOLE

from datagen.datasets.opening import open_dataset
from datagen.datasets.own_export import FORMATS, own_export
from datagen.datasets.packing import pack
from datagen.datasets.reading import Opened, ReadOptions
from datagen.datasets.stored import digests_of
from datagen.export.formats import OWN, known_format
from datagen.export.info import DatasetInfo, ExportInfo
from datagen.export.rows import Origin, Rows, Split
from datagen.export.sinks import FolderSink
from datagen.export.writing import write_export
from datagen.images import LabelledImages, encode_png
from datagen.schemas import SPLITS
from datagen.shards import SampleBatch

PLAIN = ("ant", "bee", "cat")
NAMES = {
    "sorted": PLAIN,
    "in an order of their own": ("zoo", "ant", "Bee", "cat"),
    "numbers from 1": ("1", "2", "3"),
    "numbers from 0": tuple(str(number) for number in range(12)),
    "numbers in an order of their own": ("2", "0", "1"),
    "numbers with zeros and signs": ("01", "1", "-1"),
    "to be escaped": ("train", "a/b", "50%", "con", ".hidden", "__x", "a:b", "test"),
    "unicode": ("Ünïcödé", "猫", "a\u2028b", "😀"),
    "inner spaces": ("a  b", "a b", "a   b"),
    "outer spaces": (" a", "a", "a "),
    "differing in case only": ("cat", "Cat", "CAT"),
    "words of the formats": ("data", "label", "null", "None", "nan", "true"),
    "one": ("only",),
}
ALL = dict.fromkeys(SPLITS, 4)


def drawn(
    names: tuple[str, ...], counts: dict[str, int], shape: tuple[int, int, int]
) -> dict[str, LabelledImages]:
    """Splits of random images: labels are shuffled, and the last class only trains."""
    random = np.random.default_rng(len(names))
    found = {}
    for split, count in counts.items():
        used = len(names) if split == "train" else max(1, len(names) - 1)
        labels = np.tile(np.arange(used), count)
        random.shuffle(labels)
        images = random.integers(0, 256, (len(labels), *shape), dtype=np.uint8)
        found[split] = LabelledImages(images, labels, names)
    return found


def exported(
    kind: str, splits: dict[str, LabelledImages], folder: Path, names: tuple[str, ...]
) -> None:
    info = ExportInfo(
        class_names=names,
        image_shape=next(iter(splits.values())).image_shape,
        created_at=datetime(2026, 3, 4, tzinfo=UTC),
        synthetic={},
        real={split: images.counts().tolist() for split, images in splits.items()},
        dataset=DatasetInfo("pets", 3, digests_of(splits).content),
    )
    parts = (Split(split, images.counts(), [rows_of(images)]) for split, images in splits.items())
    with FolderSink(folder) as sink:
        write_export(kind, parts, info, sink)


def rows_of(images: LabelledImages) -> Rows:
    files, none = encode_png(images.images), np.full(len(images), -1)
    samples = SampleBatch(
        indices=np.arange(len(images)),
        labels=images.labels,
        scores=np.full(len(images), np.nan),
        judged_labels=none,
        attempts=none,
        sources=np.full((len(images), 2), -1, dtype=np.int64),
        digests=[hashlib.sha256(file).digest() for file in files],
        images=files,
    )
    called = [f"photos/{index}.jpg" for index in range(len(images))]
    return Rows(Origin("", synthetic=False), samples, called)


def given_back(folder: Path, work: Path) -> Opened:
    """Packed by the client, and opened by the service."""
    (work / "scratch").mkdir()
    pack(folder, work / "packed")
    return open_dataset(work / "packed", ReadOptions(shares=WHOLE), work / "scratch")


def splits_in_format(kind: str, counts: dict[str, int]) -> dict[str, int]:
    """The splits that a format has a place for."""
    return {split: count for split, count in counts.items() if split in known_format(kind).splits}


def check_same(found: dict[str, LabelledImages], splits: dict[str, LabelledImages]) -> None:
    assert list(found) == list(splits)
    for split, images in splits.items():
        assert found[split].class_names == images.class_names
        assert found[split].labels.tolist() == images.labels.tolist()
        assert np.array_equal(found[split].images, images.images)
    assert digests_of(found).content == digests_of(splits).content


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_classes_are_what_they_were(tmp_path, kind, names):
    splits = drawn(names, splits_in_format(kind, ALL), (1, 8, 8))
    exported(kind, splits, tmp_path / "out", names)

    check_same(given_back(tmp_path / "out", tmp_path).splits, splits)


@pytest.mark.parametrize(
    "counts",
    [
        {"train": 5},
        {"train": 5, "test": 2},
        {"train": 5, "validation": 2},
        {"train": 5, "validation": 1, "test": 1},
    ],
    ids=["train", "test", "validation", "all"],
)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8)], ids=["grey", "rgb"])
@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_images_labels_and_splits_are_what_they_were(tmp_path, kind, shape, counts):
    if shape[0] == 3 and not known_format(kind).rgb:
        shape = (1, 8, 8)
    splits = drawn(PLAIN, splits_in_format(kind, counts), shape)
    exported(kind, splits, tmp_path / "out", PLAIN)

    check_same(given_back(tmp_path / "out", tmp_path).splits, splits)


@pytest.mark.parametrize("archive", ["zip", "gztar"])
@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_archive_of_an_export_is_what_the_folder_is(tmp_path, kind, archive):
    splits = drawn(PLAIN, splits_in_format(kind, ALL), (1, 8, 8))
    exported(kind, splits, tmp_path / "out", PLAIN)
    packed = shutil.make_archive(str(tmp_path / "packed"), archive, tmp_path / "out")
    (tmp_path / "scratch").mkdir()

    found = open_dataset(Path(packed), ReadOptions(), tmp_path / "scratch")

    check_same(found.splits, splits)


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_export_is_known_by_its_manifest(tmp_path, kind):
    exported(kind, drawn(PLAIN, {"train": 1}, (1, 8, 8)), tmp_path, PLAIN)

    own = own_export(tmp_path)

    assert own is not None
    assert (own.format, own.class_names) == (kind, PLAIN)


def test_every_format_of_ours_is_known():
    assert {layout.name for layout in OWN} == FORMATS


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"format": ["idx"]},
        {"files": None},
        {"class_names": []},
        {"class_names": ["a", "a"]},
        {"class_names": [1, 2]},
        {"schema_version": "2"},
    ],
    ids=str,
)
def test_manifest_of_others_is_no_sign_of_ours(tmp_path, change):
    exported("npz", drawn(PLAIN, {"train": 1}, (1, 8, 8)), tmp_path, PLAIN)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))

    assert own_export(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, '{"format": "npz"}', "\ud800"])
def test_file_that_is_no_manifest_is_no_sign_of_ours(tmp_path, text):
    (tmp_path / "manifest.json").write_bytes(text.encode(errors="surrogatepass"))

    assert own_export(tmp_path) is None
