"""Reading a dataset as the service does, with a scratch folder that goes when the test ends."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from datagen.datasets.opening import open_dataset
from datagen.datasets.reading import Opened, ReadOptions
from datagen.images import LabelledImages

WHOLE = {"train": 1.0}


def opened(source: Path, **options: Any) -> Opened:
    """What a source gives; without shares of its own nothing is held out of what has no splits."""
    wanted = ReadOptions(**{"shares": WHOLE, **options})
    with tempfile.TemporaryDirectory(prefix="datagen-scratch-") as scratch:
        return open_dataset(source, wanted, Path(scratch))


def read(source: Path, **options: Any) -> dict[str, LabelledImages]:
    """The splits of a source."""
    return opened(source, **options).splits
