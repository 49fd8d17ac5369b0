"""Images per second that training code reads: ours beside ImageFolder and WebDataset, in one run.

    python -m benchmarks.loading [--images 50000] [--rounds 3]

The same images of 28 x 28, exported by us in three formats, go through one DataLoader each (batches
of 256, two workers, a tensor an image); ways take turns, medians. The first opening of
`SyntheticDataset`, which copies the images into the cache, is told apart. Prints a table as
Markdown, and as its last line one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import webdataset
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.exports import job_of, make_shards
from benchmarks.machine import machine
from datagen.export.sinks import FolderSink
from datagen.export.writing import write_export
from datagen.pytorch import SyntheticDataset, SyntheticStream

BATCH, WORKERS = 256, 2
# ImageFolder opens every picture as RGB, so all three channels are what it would train on.
TO_TENSOR = v2.Compose([v2.PILToTensor()])
SHOWN = {
    "dataset": "`SyntheticDataset`, any row by number",
    "shuffled": "`SyntheticDataset`, shuffled by the DataLoader",
    "stream": "`SyntheticStream`, in order",
    "imagefolder": "torchvision's ImageFolder",
    "webdataset": "webdataset, from tars in order",
}


def exported(source: Path, out: Path, name: str) -> Path:
    """The job in a folder, in a format."""
    split, info = job_of(source)
    with FolderSink(out / name) as sink:
        write_export(name, [split], info, sink)
    return out / name


def read(loader: Any) -> int:
    """Images of one epoch."""
    return sum(len(images) for images, _ in loader)


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description="Loading, beside the plain ways.")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as name:
        source, out = Path(name, "job"), Path(name, "out")
        source.mkdir()
        make_shards(source, given.images)
        folders = {
            kind: exported(source, out, kind) for kind in ("parquet", "imagefolder", "webdataset")
        }
        began = time.perf_counter()
        dataset = SyntheticDataset(folders["parquet"], transform=TO_TENSOR, cache=out / "cache")
        opening = time.perf_counter() - began
        stream = SyntheticStream(folders["parquet"], transform=TO_TENSOR)
        pictures = ImageFolder(str(folders["imagefolder"] / "train"), transform=TO_TENSOR)
        tars = sorted(str(path) for path in (folders["webdataset"] / "train").glob("*.tar"))

        def from_tars() -> Any:
            samples = webdataset.WebDataset(tars, shardshuffle=False).decode("pil")
            return samples.to_tuple("png", "cls").map_tuple(TO_TENSOR, int)

        def loader(images: Any, **options: Any) -> Any:
            return DataLoader(images, batch_size=BATCH, num_workers=WORKERS, **options)

        ways: dict[str, Callable[[], Any]] = {
            "dataset": lambda: loader(dataset),
            "shuffled": lambda: loader(dataset, shuffle=True),
            "stream": lambda: loader(stream),
            "imagefolder": lambda: loader(pictures),
            "webdataset": lambda: loader(from_tars()),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(given.rounds):
            for way, make in ways.items():
                began = time.perf_counter()
                if read(make()) != given.images:
                    raise SystemExit(f"{way} did not give {given.images} images.")
                seconds[way].append(time.perf_counter() - began)
    found = {way: given.images / statistics.median(own) for way, own in seconds.items()}
    print("| way | images/s | ÷ ImageFolder |\n|---|---:|---:|")
    for way, per_second in found.items():
        print(f"| {SHOWN[way]} | {per_second:,.0f} | {per_second / found['imagefolder']:.1f} |")
    print(f"\nOpening `SyntheticDataset` for the first time: {opening:.2f} s.")
    told = {"machine": machine(os.cpu_count() or 1), "opening": opening, "per_second": found}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
