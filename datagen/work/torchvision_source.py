"""Write a dataset of torchvision's as an NPZ file: `python -m datagen.work.torchvision_source`.

A process of its own, because the command line and the client do not load torch.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torchvision
from torchvision.datasets.vision import VisionDataset

from datagen.scratch import scratch

UNKNOWN = 3
# How the datasets of torchvision name what is trained on and what is not.
_SPLITS: tuple[tuple[str, dict[str, dict[str, Any]]], ...] = (
    ("train", {"train": {"train": True}, "test": {"train": False}}),
    ("split", {"train": {"split": "train"}, "test": {"split": "test"}}),
)


def main() -> int:
    """Download and write; what is wrong stands in one line on standard error."""
    name, out = sys.argv[1], Path(sys.argv[2])
    kind = getattr(torchvision.datasets, name, None)
    if not (inspect.isclass(kind) and issubclass(kind, VisionDataset)):
        known = ", ".join(sorted(set(torchvision.datasets.__all__) & set(_known())))
        sys.stderr.write(f"torchvision has no dataset {name[:80]!r}; it has {known}.\n")
        return UNKNOWN
    try:
        with scratch("torchvision") as folder:
            arrays = _arrays(kind, str(folder))
    # Downloads end in whatever the network and the archive make of them.
    except Exception as error:  # noqa: BLE001
        sys.stderr.write(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}\n")
        return 1
    with out.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return 0


def _known() -> list[str]:
    found = vars(torchvision.datasets).items()
    return [
        name for name, kind in found if inspect.isclass(kind) and issubclass(kind, VisionDataset)
    ]


def _arrays(kind: type[VisionDataset], folder: str) -> dict[str, np.ndarray]:
    takes = inspect.signature(kind).parameters
    arrays: dict[str, np.ndarray] = {}
    always = {"download": True, "root": folder}
    always = {word: value for word, value in always.items() if word in takes}
    whole: dict[str, dict[str, Any]] = {"": {}}
    for split, options in next((own for word, own in _SPLITS if word in takes), whole).items():
        dataset = kind(**options, **always)
        images, labels = _read(dataset)
        keys = (f"x_{split}", f"y_{split}") if split else ("images", "labels")
        arrays |= dict(zip(keys, (images, labels), strict=True))
        names = getattr(dataset, "classes", None)
        if names and all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
            arrays["class_names"] = np.array(names)
    return arrays


def _read(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for image, label in dataset:
        images.append(np.asarray(image))
        labels.append(int(label))
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise ValueError(
            "its images have several sizes; save them as class folders, and add those with a size"
        )
    return np.stack(images), np.array(labels)


if __name__ == "__main__":
    sys.exit(main())
