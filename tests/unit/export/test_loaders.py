"""Every export is reopened by the loaders that its users have, and compared image by image."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import huggingface_hub
import mlcroissant
import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image
from torchvision.datasets import MNIST, ImageFolder

from datagen.export import parquet, tfrecord
from datagen.export import webdataset as our_webdataset
from datagen.export.formats import formats
from datagen.export.protocol import missing_before_others

CASES: dict[str, dict[str, int]] = {
    "ordinary": {"cat": 4, "dog": 9, "owl": 5},
    "one class": {"scratch": 6},
    "twelve classes named by number": {str(number): 2 for number in range(12)},
    "class named like a split": {"cat": 2, "test": 3, "my-val": 2},
    "odd names": {
        "a/b": 2, "..": 1, "ä🦉": 2, "x" * 300: 1, "cat": 2, "Cat": 1, "[*]": 1, "eval": 1, ".": 1
    },
    "class without images": {"cat": 3, "dog": 0, "owl": 2},
    "names in a given order": {"zebra": 2, "train": 1, "Ant": 2, "item10": 1, "item2": 3},
    "names with white space": {" a  b": 2, "a b": 1, "c\u2028d": 2, "e\u00a0": 1},
}  # fmt: skip
SHAPES = [(1, 8, 8), (3, 8, 8)]
SEVERAL = {
    "synthetic": {"validation": {"cat": 2}},
    # No owl in the split test.
    "real": {"train": {"cat": 3, "owl": 1}, "test": {"cat": 1, "dog": 2}},
}


@pytest.fixture(params=SHAPES, ids=["grey", "rgb"])
def shape(request: pytest.FixtureRequest) -> tuple[int, int, int]:
    size: tuple[int, int, int] = request.param
    return size


@pytest.fixture(params=[*CASES, "several splits"])
def whole(request: pytest.FixtureRequest, draw: Any, shape: tuple[int, int, int]) -> Any:
    """What is to be exported, in all the cases."""
    if request.param == "several splits":
        return draw(CASES["ordinary"], shape=shape, **SEVERAL)
    return draw(CASES[request.param], shape=shape)


def _pixels(image: Any, channels: int | None = None) -> np.ndarray:
    array = np.asarray(image)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return array if channels is None else array[:channels]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _by_digest(drawn: Any, split: str) -> dict[str, Any]:
    return {
        hashlib.sha256(image.tobytes()).hexdigest(): (stem, label, synthetic)
        for stem, label, image, synthetic in drawn.all_rows(split)
    }


def _same(found: Iterator[tuple[Any, int]], drawn: Any, split: str) -> None:
    """The pixels and labels that were found are those that were drawn, each once."""
    channels = drawn.info.image_shape[0]
    wanted = sorted(
        (image.tobytes(), label) for _, label, image, _ in drawn.all_rows(split)
    )  # fmt: skip
    assert sorted((_pixels(image, channels).tobytes(), int(label)) for image, label in found) == (
        wanted
    )


@pytest.mark.parametrize("name", ["parquet", "imagefolder"])
def test_datasets_library_reads_labels_names_and_pixels(
    name: str, whole: Any, load_dataset: Any, tmp_path: Path
) -> None:
    whole.write(name, tmp_path / "set")
    loaded = load_dataset(tmp_path / "set")
    assert set(loaded) == set(whole.info.counts)
    for split, rows in loaded.items():
        assert rows.features["label"].names == list(whole.names)
        _same(((row["image"], row["label"]) for row in rows), whole, split)
        kinds = _by_digest(whole, split)
        for row in rows:
            pixels = _pixels(row["image"], whole.info.image_shape[0])
            _, _, synthetic = kinds[hashlib.sha256(pixels.tobytes()).hexdigest()]
            assert row["synthetic"] is synthetic


@pytest.mark.parametrize("name", ["parquet", "imagefolder"])
def test_datasets_library_reads_where_each_image_comes_from(
    name: str, draw: Any, load_dataset: Any, tmp_path: Path
) -> None:
    drawn = draw(CASES["ordinary"], real={"train": {"dog": 1}})
    drawn.write(name, tmp_path / "set")
    rows = load_dataset(tmp_path / "set")["train"]
    made = next(row for row in rows if row["synthetic"] and row["index"] == 7)
    assert {key: made[key] for key in made if key not in {"image", "file_name"}} == {
        "label": 1,
        "synthetic": True,
        "index": 7,
        "job": "0192f0c1-0000-7000-8000-000000000001",
        "model": "ab" * 32,
        "sampler": "prior",
        "seed": 9,
        "attempt": 0,
        "score": pytest.approx(0.7059),
        "judged_label": 1,
        "first_source": None,
        "second_source": None,
        "source_file": None,
        "digest": hashlib.sha256(drawn.files[7]).hexdigest(),
    }
    (real,) = (row for row in rows if not row["synthetic"])
    told = {key: real[key] for key in real if real[key] is not None}
    assert {key: told[key] for key in told if key not in {"image", "file_name", "digest"}} == {
        "label": 1,
        "synthetic": False,
        "index": 0,
        "source_file": "photos/0.jpg",
    }


def test_datasets_library_streams_webdataset(whole: Any, load_dataset: Any, tmp_path: Path) -> None:
    whole.write("webdataset", tmp_path / "set")
    loaded = load_dataset(tmp_path / "set")
    assert set(loaded) == set(whole.info.counts)
    for split, rows in loaded.items():
        _same(((row["png"], row["cls"]) for row in rows), whole, split)
        assert {row["json"]["label_name"] for row in rows} <= set(whole.names)


# The library leaves the files that it has read to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_its_tars(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(our_webdataset, "ROWS_PER_FILE", 4)
    whole.write("webdataset", tmp_path)
    for split in whole.info.counts:
        tars = sorted(str(path) for path in (tmp_path / split).glob("*.tar"))
        assert len(tars) == -(-int(whole.info.counts[split].sum()) // 4)
        samples = list(
            webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode("pilrgb" if
            whole.info.image_shape[0] == 3 else "l8")
        )  # fmt: skip
        _same(((sample["png"], sample["cls"]) for sample in samples), whole, split)
        stems = [stem for stem, *_ in whole.all_rows(split)]
        assert sorted(sample["__key__"] for sample in samples) == sorted(stems)


def test_torchvision_numbers_the_class_folders_as_we_do(whole: Any, tmp_path: Path) -> None:
    whole.write("imagefolder", tmp_path)
    for split, counts in whole.info.counts.items():
        labels = {stem: label for stem, label, *_ in whole.all_rows(split)}
        if missing_before_others(counts):
            _make_missing(tmp_path, split)
        folder = ImageFolder(str(tmp_path / split), allow_empty=True)
        assert {Path(path).stem: label for path, label in folder.samples} == labels
        _same(
            ((folder[number][0], label) for number, (_, label) in enumerate(folder.samples)),
            whole,
            split,
        )


def _make_missing(root: Path, split: str) -> None:
    """What the card says for classes without images in a split, which have no folder there."""
    for name in (root / "folders.txt").read_text().split("\n")[:-1]:
        (root / split / name).mkdir(exist_ok=True)


def _as_timm(root: Path, class_map: Path | None = None) -> list[tuple[Path, int]]:
    """Pictures below a folder with their class numbers, by the rules of timm's image folders."""
    pictures = [path for path in root.rglob("*") if path.suffix in {".png", ".jpg", ".jpeg"}]
    labels = ["" if path.parent == root else path.parent.name for path in pictures]

    def natural(name: str) -> list[int | str]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name.lower())]

    names: list[str] = sorted(set(labels), key=natural)
    if class_map is not None:
        names = [line.strip() for line in class_map.read_text().split("\n")[:-1]]
    return [(path, names.index(label)) for path, label in zip(pictures, labels, strict=True)]


def test_timm_numbers_the_class_folders_as_we_do(whole: Any, tmp_path: Path) -> None:
    whole.write("imagefolder", tmp_path)
    for split, counts in whole.info.counts.items():
        labels = {stem: label for stem, label, *_ in whole.all_rows(split)}
        remedy = tmp_path / "folders.txt" if missing_before_others(counts) else None
        found = _as_timm(tmp_path / split, remedy)
        assert {path.stem: label for path, label in found} == labels


def test_loader_that_is_given_the_root_finds_no_class_but_ours(drawn: Any, tmp_path: Path) -> None:
    drawn.write("imagefolder", tmp_path)
    assert {path.parent.name for path, _ in _as_timm(tmp_path)} == set(drawn.names)
    assert ImageFolder(str(tmp_path)).classes == ["train"]
    page = (tmp_path / "contact-sheet.html").read_text()
    sheet = base64.b64decode(page.partition("base64,")[2].partition('"')[0])
    with Image.open(io.BytesIO(sheet)) as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize("case", CASES)
def test_torchvisions_mnist_reads_idx(case: str, draw: Any, tmp_path: Path) -> None:
    real = {"test": {next(iter(CASES[case])): 3}} if case == "ordinary" else None
    drawn = draw(CASES[case], real=real)
    drawn.write("idx", tmp_path)
    for split, train in (("train", True), ("test", False)):
        if split in drawn.info.counts:
            found = MNIST(str(tmp_path), train=train)
            _same(zip(found.data.numpy(), found.targets, strict=True), drawn, split)
        else:
            size = (tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte").stat().st_size
            assert size == 16


def test_numpy_reads_npz_without_pickle(whole: Any, tmp_path: Path) -> None:
    whole.write("npz", tmp_path)
    with np.load(tmp_path / "dataset.npz", allow_pickle=False) as arrays:
        assert arrays["class_names"].tolist() == list(whole.names)
        for key, split in (("train", "train"), ("val", "validation"), ("test", "test")):
            if split not in whole.info.counts:
                assert split == "validation" or len(arrays[f"x_{key}"]) == 0
                continue
            images, labels = arrays[f"x_{key}"], arrays[f"y_{key}"]
            assert (images.dtype, labels.dtype) == (np.uint8, np.uint8)
            _same(zip(images, labels, strict=True), whole, split)


def _examples(path: Path) -> Iterator[dict[str, Any]]:
    """The features of each record, as TensorFlow would read them, every checksum checked."""

    def unmasked(stored: bytes) -> int:
        value = (struct.unpack("<I", stored)[0] - 0xA282EAD8) % 2**32
        return (value << 15 | value >> 17) % 2**32

    with path.open("rb") as file:
        while head := file.read(8):
            assert unmasked(file.read(4)) == google_crc32c.value(head)
            payload = file.read(struct.unpack("<Q", head)[0])
            assert unmasked(file.read(4)) == google_crc32c.value(payload)
            ((_, features),) = _fields(payload)
            found = {}
            for _, entry in _fields(features):
                (_, key), (_, feature) = _fields(entry)
                ((kind, values),) = _fields(feature)
                ((_, value),) = _fields(values)
                found[key.decode()] = value if kind == 1 else _varint(value, 0)[0]
            yield found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not data[at - 1] & 0x80:
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        assert data[at] & 7 == 2
        number = data[at] >> 3
        length, at = _varint(data, at + 1)
        yield number, data[at : at + length]
        at += length


def test_records_hold_fiftyones_features(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tfrecord, "ROWS_PER_FILE", 5)
    whole.write("tfrecord", tmp_path)
    channels, height, width = whole.info.image_shape
    place = {name: label for label, name in enumerate(whole.names)}
    for split, counts in whole.info.counts.items():
        files = sorted((tmp_path / split).iterdir())
        many = -(-int(counts.sum()) // 5)
        assert [file.name for file in files] == [
            f"tf.records-{number:05d}-of-{many:05d}" for number in range(many)
        ]
        records = [record for file in files for record in _examples(file)]
        assert {(row["depth"], row["height"], row["width"]) for row in records} == {
            (channels, height, width)
        }
        assert {row["format"] for row in records} == {b"png"}
        assert all(row["filename"].endswith(b".png") for row in records)
        assert all(place[row["label"].decode()] == row["label_index"] for row in records)
        _same(
            ((Image.open(io.BytesIO(row["image_bytes"])), row["label_index"]) for row in records),
            whole,
            split,
        )


def test_stylegans_rules_are_kept(whole: Any, tmp_path: Path) -> None:
    whole.write("stylegan", tmp_path)
    for split in whole.info.counts:
        with zipfile.ZipFile(tmp_path / f"{split}.zip") as archive:
            assert all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
            labels = dict(json.loads(archive.read("dataset.json"))["labels"])
            images = [name for name in archive.namelist() if name.endswith(".png")]
            # What its ImageFolderDataset does: sorted names, a label for every one.
            assert sorted(images) == sorted(labels)
            assert images[0] == "00000/img00000000.png"
            _same(
                ((Image.open(io.BytesIO(archive.read(name))), labels[name]) for name in images),
                whole,
                split,
            )


def test_fiftyones_layout_is_kept(whole: Any, tmp_path: Path) -> None:
    whole.write("fiftyone", tmp_path)
    for split in whole.info.counts:
        document = json.loads((tmp_path / split / "labels.json").read_text())
        assert document["classes"] == list(whole.names)
        images = {path.stem: path for path in (tmp_path / split / "data").iterdir()}
        assert set(images) == set(document["labels"])
        _same(
            ((Image.open(images[stem]), told["label"])
             for stem, told in document["labels"].items()),
            whole,
            split,
        )  # fmt: skip
        for told in document["labels"].values():
            assert told["attributes"]["synthetic"] is (told["confidence"] is not None)


@pytest.mark.parametrize("name", ["idx", "imagefolder", "stylegan", "tfrecord", "webdataset"])
@pytest.mark.parametrize("case", ["names with white space", "odd names", "one class"])
def test_class_names_stand_beside_numbers_as_they_are(
    name: str, case: str, draw: Any, tmp_path: Path
) -> None:
    drawn = draw(CASES[case], shape=(1, 8, 8))
    drawn.write(name, tmp_path)
    text = (tmp_path / "classes.txt").read_bytes().decode()
    assert text.split("\n") == [*drawn.names, ""]


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
        _same(
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


def test_class_without_images_in_a_split_is_warned_of_and_told_in_the_card(
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
