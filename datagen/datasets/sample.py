"""`sample:mnist`, the small real dataset that ships with datagen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datagen.bundled import SAMPLE
from datagen.errors import InvalidFile
from datagen.images import LabelledImages, decode_pngs


def load_sample(path: Path = SAMPLE) -> dict[str, LabelledImages]:
    """The splits `train` (6,000 images) and `test` (1,000) of the bundled sample.

    Raises:
        InvalidFile: the file is missing or damaged.
    """
    try:
        table = pq.read_table(path)
        features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        names = tuple(features["label"]["names"])
        labels = table["label"].to_numpy()
        splits = table["split"].to_numpy()
        files = table["image"].combine_chunks().field("bytes").to_pylist()
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
        raise InvalidFile(f"The sample {path.name} cannot be read: {error}.") from error
    images = decode_pngs(files)
    return {
        split: LabelledImages(
            images[splits == split], labels[splits == split].astype(np.int64), names
        )
        for split in ("train", "test")
    }
