"""Seconds and memory that one large picture takes while it is scaled down, kind by kind.

Each picture is read as `--size 32` reads it, by a process of its own, several times; medians.
Memory is the rise of the process's peak above what it held with the file's bytes in memory. Beside
it stands what Pillow takes that decodes the whole picture and then scales it.

    python benchmarks/large_pictures.py [--megapixels 80] [--rounds 3]

Linux only, which keeps the peak of a process's own memory. Prints a table, and as its last line one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import machine
from PIL import Image

SIZE = 32
KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "JPEG": ("JPEG", {"quality": 90}),
    "JPEG, progressive": ("JPEG", {"quality": 90, "progressive": True}),
    "PNG": ("PNG", {"compress_level": 1}),
    "TIFF, uncompressed": ("TIFF", {}),
    "TIFF, LZW": ("TIFF", {"compression": "tiff_lzw"}),
}
_READ = """
import json, sys, time
from pathlib import Path

import numpy as np
from PIL import Image
from datagen.pictures.reading import read_picture

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

def with_pillow(path, size):
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path) as image:
        np.asarray(image.resize((size, size), Image.Resampling.BOX))

path, how, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
data = Path(path).read_bytes()
before, began = peak(), time.perf_counter()
if how == "datagen":
    read_picture(data, "picture", small=size)
else:
    with_pillow(path, size)
print(json.dumps([time.perf_counter() - began, peak() - before]))
"""


def picture(megapixels: int) -> Image.Image:
    """A landscape picture of slow waves of colour, with noise as a sensor has it."""
    height = round(math.sqrt(megapixels * 1_000_000 * 2 / 3))
    width = round(megapixels * 1_000_000 / height)
    waves = Image.linear_gradient("L").resize((width, height))
    noise = Image.effect_noise((width, height), 12)
    return Image.merge("RGB", [waves, noise, waves.transpose(Image.Transpose.ROTATE_180)])


def measured(path: Path, how: str) -> tuple[float, float]:
    """Seconds and MiB of one reading."""
    ran = subprocess.run(
        [sys.executable, "-c", _READ, str(path), how, str(SIZE)],
        capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    seconds, mebibytes = json.loads(ran.stdout)
    return seconds, mebibytes


def main() -> None:
    """Measure, print the table, and the JSON as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--megapixels", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    whole = picture(asked.megapixels)
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as name:
        for kind, (ending, options) in KINDS.items():
            path = Path(name, "picture")
            whole.save(path, ending, **options)
            own: dict[str, float] = {"megabytes": path.stat().st_size / 1e6}
            runs: dict[str, list[tuple[float, float]]] = {"datagen": [], "pillow": []}
            for _ in range(asked.rounds):
                for how, found in runs.items():
                    found.append(measured(path, how))
            for how, found in runs.items():
                own[f"{how}_seconds"] = statistics.median(seconds for seconds, _ in found)
                own[f"{how}_mebibytes"] = statistics.median(mebibytes for _, mebibytes in found)
            results[kind] = {key: round(value, 2) for key, value in own.items()}
            print(
                f"{kind:20s} {own['megabytes']:7.0f} MB   datagen {own['datagen_seconds']:6.2f} s "
                f"{own['datagen_mebibytes']:6.0f} MiB   Pillow {own['pillow_seconds']:6.2f} s "
                f"{own['pillow_mebibytes']:6.0f} MiB",
                flush=True,
            )
    about = {"machine": machine(1), "megapixels": asked.megapixels, "size": SIZE}
    print(json.dumps(about | {"kinds": results}))


if __name__ == "__main__":
    main()
