"""Images per second that datasets are read at, from files of several kinds, in one run.

Each kind holds the same made-up images of 28 x 28 grey pixels. A reading is what the service does
with an upload: find out what it is, decode, look for duplicates, split, take the digest, and write
the files that are kept. Kinds take turns, round by round; medians. Beside them stands how long it
takes to find out what a folder of 100,000 pictures in 100 class folders is, before any is decoded.

    python benchmarks/ingest.py [--images 10000] [--rounds 5] [--files 100000]

Prints a table with the targets, and as its last line one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import struct
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datagen.datasets.detect import find_dataset
from datagen.datasets.opening import open_dataset
from datagen.datasets.reading import ReadOptions
from datagen.datasets.stored import digests_of, write_split
from datagen.images import encode_png

SIDE, CLASSES = 28, 10
TARGETS = {"idx": 20_000, "png files": 5_000}


def digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that compress about as digits do: a few bright pixels on black."""
    random = np.random.default_rng(0)
    images = np.zeros((count, 1, SIDE, SIDE), dtype=np.uint8)
    images[:, :, 6:22, 9:19] = random.integers(0, 256, (count, 1, 16, 10), dtype=np.uint8)
    return images, np.arange(count) % CLASSES


def write_idx(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    head = struct.pack(">4I", 0x0803, len(images), SIDE, SIDE)
    (folder / "train-images-idx3-ubyte").write_bytes(head + images.tobytes())
    head = struct.pack(">2I", 0x0801, len(labels))
    (folder / "train-labels-idx1-ubyte").write_bytes(head + labels.astype(np.uint8).tobytes())
    return folder


def write_png_files(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    for number, (label, data) in enumerate(zip(labels, encode_png(images), strict=True)):
        path = folder / str(label) / f"{number:06d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return folder


def write_zip(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for number, (label, data) in enumerate(zip(labels, encode_png(images), strict=True)):
            archive.writestr(f"{label}/{number:06d}.png", data)
    return folder / "images.zip"


def write_npz(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    np.savez(folder / "images.npz", images=images[:, 0], labels=labels)
    return folder / "images.npz"


def write_parquet(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    table = pa.table({"image": [{"bytes": png} for png in encode_png(images)], "label": labels})
    pq.write_table(table, folder / "images.parquet")
    return folder / "images.parquet"


def write_table(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    rows = ["file_name,label"]
    for number, (label, data) in enumerate(zip(labels, encode_png(images), strict=True)):
        path = folder / "pictures" / f"{number:06d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        rows.append(f"pictures/{path.name},{label}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


def write_webdataset(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    with tarfile.open(folder / "000000.tar", "w") as archive:
        for number, (label, data) in enumerate(zip(labels, encode_png(images), strict=True)):
            for name, content in (
                (f"{number:06d}.png", data),
                (f"{number:06d}.cls", b"%d" % label),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return folder / "000000.tar"


def many_files(folder: Path, count: int) -> Path:
    """Class folders with one small picture, so many times."""
    data = encode_png(np.zeros((1, 1, 4, 4), dtype=np.uint8))[0]
    for number in range(count):
        path = folder / f"class {number % 100:02d}" / f"{number:06d}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
    return folder


KINDS: dict[str, Callable[[Path, np.ndarray, np.ndarray], Path]] = {
    "idx": write_idx,
    "png files": write_png_files,
    "png files in a zip": write_zip,
    "npz": write_npz,
    "parquet": write_parquet,
    "png files and a csv": write_table,
    "webdataset": write_webdataset,
}


def seconds_of(source: Path) -> float:
    """Seconds that one reading takes."""
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        found = open_dataset(source, ReadOptions(), Path(scratch))
        digests_of(found.splits, found.names)
        for name, images in found.splits.items():
            write_split(Path(out, name), images, found.names[name])
        return time.perf_counter() - began


def seconds_to_recognise(folder: Path) -> float:
    """Seconds until it is known what a folder holds."""
    began = time.perf_counter()
    find_dataset(folder)
    return time.perf_counter() - began


def main() -> None:
    """Measure, print the table, and the JSON as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=100_000)
    asked = parser.parse_args()
    images, labels = digits(asked.images)
    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as name:
        sources = {}
        for kind, write in KINDS.items():
            folder = Path(name, kind)
            folder.mkdir()
            sources[kind] = write(folder, images, labels)
        seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for _ in range(asked.rounds):
            for kind, source in sources.items():
                seconds[kind].append(seconds_of(source))
        many = many_files(Path(name, "many"), asked.files)
        recognised = statistics.median(seconds_to_recognise(many) for _ in range(asked.rounds))
    rates = {kind: asked.images / statistics.median(own) for kind, own in seconds.items()}
    out = io.StringIO()
    for kind, rate in rates.items():
        target = TARGETS.get(kind)
        told = (
            ""
            if target is None
            else f"at least {target:,}  {'met' if rate >= target else 'NOT met'}"
        )
        out.write(f"{kind:20s} {rate:>12,.0f} images/s  {told}\n")
    print(out.getvalue(), end="")
    print(f"what {asked.files:,} files are: {recognised:.2f} s")
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "images": asked.images}
    found = {"images_per_second": {k: round(v) for k, v in rates.items()}}
    print(json.dumps(machine | found | {"recognised_seconds": round(recognised, 3)}))


if __name__ == "__main__":
    main()
