"""Images per second and peak memory of every export format, beside the plain way to the same.

    python -m benchmarks.exports [--images 100000 1000000] [--formats parquet …] [--ours]

Shards as workers store them are made once; then each way runs in a process of its own, which tells
its largest resident memory. Ours reads the shards, checks their hashes, and writes the archive that
a download sends. The plain ways begin with what their users have: PNG files in memory, or the
finished folder. Prints a table as Markdown, and as its last line one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.machine import machine
from datagen.bundled import SAMPLE
from datagen.datasets.sample import load_sample
from datagen.export.formats import formats
from datagen.export.info import ExportInfo, JobInfo
from datagen.export.packed import Packed, write_files
from datagen.export.rows import Origin, Rows, Split
from datagen.export.sinks import FolderSink, ZipSink
from datagen.export.unpacking import unpack
from datagen.export.writing import write_export
from datagen.images import encode_png
from datagen.service.stored_samples import StoredShard, read_stored
from datagen.shards import SampleBatch, ShardInfo, read_shard, write_shard
from datagen.storage import FileStorage

SHARD = 2000
CLASSES = tuple("0123456789")
JOB = "0192f0c1-0000-7000-8000-000000000001"
SKIPPED = {"stylegan": "28 x 28 is no power of two"}
OURS_TOO = {"unpacked": "**imagefolder's zip unpacked and checked**"}
PLAIN = {
    "copy": "the shards' bytes, copied",
    "zip": "`zip -0` of the finished folder",
    "tar": "`tar` of the finished folder",
    "pillow": "Pillow into class folders",
    "tarwriter": "webdataset's TarWriter",
    "to_parquet": "`datasets`' to_parquet",
}


def make_shards(folder: Path, images: int) -> None:
    """Shards of a job of so many images, digit after digit."""
    sample = load_sample(SAMPLE)["train"]
    files = [encode_png(sample.images[sample.labels == label]) for label in range(10)]
    storage, listed = FileStorage(folder), []
    info = ShardInfo(CLASSES, JOB, "mnist", 1, "ab" * 32, 7, 1.0)
    for start in range(0, images, SHARD):
        index = np.arange(start, min(start + SHARD, images))
        labels = index * 10 // images
        pngs = [
            files[label][number % len(files[label])]
            for number, label in zip(index, labels, strict=True)
        ]
        samples = SampleBatch(
            index, labels, np.full(len(index), 0.9), labels, np.zeros_like(index),
            np.full((len(index), 2), -1), [b""] * len(index), pngs,
        )  # fmt: skip
        shard = write_shard(samples, info)
        key = f"jobs/{start:012d}.parquet"
        storage.put(key, shard)
        listed.append([start, int(index[-1]) + 1, key, hashlib.sha256(shard).hexdigest()])
    (folder / "shards.json").write_text(json.dumps(listed))


def shards_of(folder: Path) -> list[StoredShard]:
    """The shards in a folder."""
    return [StoredShard(*row) for row in json.loads((folder / "shards.json").read_text())]


def job_of(folder: Path) -> tuple[Split, ExportInfo]:
    """The one split of a job, and what its export is told."""
    shards, storage = shards_of(folder), FileStorage(folder)
    images = shards[-1].stop
    counts = np.bincount(np.arange(images) * 10 // images, minlength=10)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    job = JobInfo(JOB, {}, "mnist", 1, "ab" * 32, 7, 1.0, moment)
    info = ExportInfo(CLASSES, (1, 28, 28), moment, {"train": counts.tolist()}, jobs=(job,))
    origin = Origin(job=JOB, model="ab" * 32, seed=7, sampler="prior")

    def rows() -> Iterator[Rows]:
        for shard in shards:
            for samples in read_stored(storage, shard):
                yield Rows(origin, samples)

    return Split("train", counts, rows()), info


def samples_of(folder: Path) -> Iterator[tuple[int, int, bytes]]:
    """Index, label and PNG of every image, one by one."""
    for shard in shards_of(folder):
        with (folder / shard.key).open("rb") as file:
            for part in read_shard(file):
                yield from zip(
                    part.indices.tolist(), part.labels.tolist(), part.images, strict=True
                )


def ours(name: str) -> Callable[[Path, Path], float]:
    """An export in a format, as a worker writes it; then the first byte of its tar."""

    def run(source: Path, out: Path) -> float:
        split, info = job_of(source)
        with (
            (out / "export.zip").open("wb") as file,
            (out / "files").open("wb") as files,
            ZipSink(file) as sink,
        ):
            write_export(name, [split], info, sink)
            write_files(sink.entries(), files)
        began = time.perf_counter()
        packed = Packed((out / "files").open("rb"), (out / "export.zip").open("rb"))
        next(packed.read_tar(0, packed.tar_bytes))
        found = time.perf_counter() - began
        packed.close()
        return found

    return run


def copied(source: Path, out: Path) -> None:
    for shard in shards_of(source):
        with (source / shard.key).open("rb") as read, (out / "copy").open("ab") as write:
            shutil.copyfileobj(read, write, 1 << 20)
    with (out / "copy").open("rb") as file:
        os.fsync(file.fileno())


def folder(source: Path, out: Path) -> None:
    """The finished folder that `zip` and `tar` begin with; not timed."""
    split, info = job_of(source)
    with FolderSink(out) as sink:
        write_export("imagefolder", [split], info, sink)


def unpacked(source: Path, out: Path) -> None:
    """What a client does with a downloaded archive."""
    unpack(source / "export.zip", out / "made")


def archive(source: Path, out: Path) -> None:
    """The archive that `unpacked` begins with; not timed."""
    ours("imagefolder")(source, out)


def zipped(source: Path, out: Path) -> None:
    subprocess.run(["zip", "-0", "-q", "-r", str(out / "a.zip"), "."], cwd=source, check=True)


def tarred(source: Path, out: Path) -> None:
    subprocess.run(["tar", "-cf", str(out / "a.tar"), "."], cwd=source, check=True)


def pillow(source: Path, out: Path) -> None:
    for label in range(10):
        (out / str(label)).mkdir()
    for index, label, png in samples_of(source):
        pixels = np.asarray(Image.open(io.BytesIO(png)))
        Image.fromarray(pixels).save(out / str(label) / f"{index:010d}.png")


def tarwriter(source: Path, out: Path) -> None:
    import webdataset  # noqa: PLC0415 - loaded by this way alone

    with webdataset.TarWriter(str(out / "a.tar")) as writer:
        for index, label, png in samples_of(source):
            told = {"label": label, "index": index, "seed": 7, "model": "ab" * 32}
            writer.write({"__key__": f"{index:010d}", "png": png, "cls": label, "json": told})


def to_parquet(source: Path, out: Path) -> None:
    import datasets  # noqa: PLC0415 - likewise

    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=list(CLASSES))
    )

    def rows() -> Iterator[dict[str, Any]]:
        for _, label, png in samples_of(source):
            yield {"image": {"bytes": png, "path": None}, "label": label}

    made = datasets.Dataset.from_generator(rows, features=features, cache_dir=str(out / "cache"))
    made.to_parquet(str(out / "a.parquet"))


WAYS: dict[str, Callable[[Path, Path], Any]] = {
    **{name: ours(name) for name in formats() if name not in SKIPPED},
    "copy": copied,
    "unpacked": unpacked,
    "folder": folder,
    "zip": zipped,
    "tar": tarred,
    "pillow": pillow,
    "tarwriter": tarwriter,
    "to_parquet": to_parquet,
}


def child(way: str, source: Path, out: Path) -> None:
    """One way, in this process; prints seconds, memory and what it found."""
    began = time.perf_counter()
    found = WAYS[way](source, out)
    seconds = time.perf_counter() - began
    # A process starts with the size of the one that started it, which `ru_maxrss` never forgets;
    # what a program started by us takes is told by that alone, and counts where it is larger.
    own = _largest()
    below = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    below = below if below > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss else 0
    told = {"seconds": seconds, "megabytes": max(own, below) / 1024, "found": found}
    print(json.dumps(told))


def _largest() -> int:
    """The largest resident memory of this process since it is what it is, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def timed(way: str, source: Path, images: int) -> dict[str, Any]:
    """One way in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as out:
        command = [sys.executable, "-m", "benchmarks.exports", "--child", way, str(source), out]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found | {"per_second": images / found["seconds"]}


def measured(images: int, wanted: list[str], plain: list[str]) -> dict[str, Any]:
    """All ways for a job of so many images."""
    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as name:
        source, finished, packed = (Path(name, part) for part in ("job", "folder", "packed"))
        source.mkdir()
        packed.mkdir()
        make_shards(source, images)
        found: dict[str, Any] = {}
        for way in [*wanted, *OURS_TOO, *plain]:
            if way == "unpacked":
                archive(source, packed)
                found[way] = timed(way, packed, images)
                shutil.rmtree(packed)
            elif way in {"zip", "tar"}:
                if not finished.exists():
                    finished.mkdir()
                    folder(source, finished)
                found[way] = timed(way, finished, images)
            else:
                found[way] = timed(way, source, images)
            print(f"{images:,} {way}: {found[way]['per_second']:,.0f}/s", file=sys.stderr)
    return found


def main() -> None:
    """Run all, or be one of the processes that run."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description="Exports, beside the plain ways.")
    parser.add_argument("--images", type=int, nargs="+", default=[100_000, 1_000_000])
    names = [name for name in formats() if name not in SKIPPED]
    parser.add_argument("--formats", nargs="+", choices=names, default=names)
    parser.add_argument("--ours", action="store_true", help="Leave out the plain ways.")
    given = parser.parse_args()
    plain = [] if given.ours else list(PLAIN)
    found = {images: measured(images, given.formats, plain) for images in given.images}
    heads = [f"{images:,} images, /s | memory" for images in given.images]
    print(f"| way | {' | '.join(heads)} |\n|---|{'---:|---:|' * len(given.images)}")
    for way in [*given.formats, *OURS_TOO, *plain]:
        cells = [
            f"{found[images][way]['per_second']:,.0f} | {found[images][way]['megabytes']:,.0f} MB"
            for images in given.images
        ]
        shown = (PLAIN | OURS_TOO).get(way, f"**{way}**")
        print(f"| {shown} | {' | '.join(cells)} |")
    print(json.dumps({"machine": machine(os.cpu_count() or 1), "found": found}))


if __name__ == "__main__":
    main()
