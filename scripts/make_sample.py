"""Make `sample:mnist`, the small real dataset that ships with datagen.

    python scripts/make_sample.py MNIST_DIR OUT

MNIST_DIR holds the four IDX files. OUT becomes one Parquet file with 6,000 of the 60,000 training
images and 1,000 of the 10,000 test images. Each class has the share that it has in MNIST (largest
remainders get the images that rounding leaves over), and of each class it is the first images in
MNIST's own order; that order is kept. The same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from datagen.datasets.opening import open_dataset
from datagen.datasets.reading import ReadOptions
from datagen.images import LabelledImages
from datagen.shards import IMAGE_TYPE, image_column, loader_metadata

SIZES = {"train": 6_000, "test": 1_000}
COLUMNS = (("image", IMAGE_TYPE), ("label", pa.int64()), ("split", pa.string()))
SMALL_ENOUGH = 3_000_000
ORIGIN = {
    "name": "sample:mnist",
    "description": "6,000 training and 1,000 test images of MNIST, each class with its own share.",
    "source": "The MNIST database of handwritten digits, http://yann.lecun.com/exdb/mnist/",
    "creators": ["Yann LeCun", "Corinna Cortes", "Christopher J. C. Burges"],
    "license": "CC BY-SA 3.0, https://creativecommons.org/licenses/by-sa/3.0/",
}


def chosen(images: LabelledImages, size: int) -> np.ndarray:
    """Positions of the images that are taken, int64 of shape (size,), rising."""
    shares = images.counts() * size / len(images)
    takes = np.floor(shares).astype(np.int64)
    left_over = size - takes.sum()
    takes[np.argsort(takes - shares, kind="stable")[:left_over]] += 1
    of_class = (np.flatnonzero(images.labels == label)[:take] for label, take in enumerate(takes))
    return np.sort(np.concatenate(list(of_class)))


def smallest_png(pixels: np.ndarray) -> bytes:
    """A grey PNG that took its time, for an image of shape (1, H, W)."""
    out = io.BytesIO()
    Image.fromarray(pixels[0]).save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    """Read MNIST, choose, write, and print what came of it."""
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    tables = []
    with tempfile.TemporaryDirectory(prefix="datagen-sample-") as scratch:
        splits = open_dataset(source, ReadOptions(), Path(scratch)).splits
    names = splits["train"].class_names
    metadata = loader_metadata(names, COLUMNS) | {b"datagen": json.dumps(ORIGIN).encode()}
    schema = pa.schema(COLUMNS, metadata=metadata)
    for split, size in SIZES.items():
        rows = chosen(splits[split], size)
        files = [smallest_png(pixels) for pixels in splits[split].images[rows]]
        # The path tells which image of MNIST it is.
        paths = [f"{split}-{row:05d}.png" for row in rows.tolist()]
        labels = pa.array(splits[split].labels[rows])
        columns = [image_column(files, paths), labels, pa.repeat(split, size)]
        tables.append(pa.table(columns, schema=schema))
    pq.write_table(
        pa.concat_tables(tables), out, compression="zstd", compression_level=19,
        write_statistics=False,
    )  # fmt: skip
    size = out.stat().st_size
    if size > SMALL_ENOUGH:
        sys.exit(f"The sample takes {size:,} bytes; it may take {SMALL_ENOUGH:,}.")
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    print(json.dumps({"path": str(out), "bytes": size, "sha256": digest, "rows": SIZES}))


if __name__ == "__main__":
    main()
