"""The recipe, run on a few striped images with networks of a few hundred weights."""

from __future__ import annotations

from typing import Any

# Of the stripes that tell the classes apart.
NAMES = ("top", "middle", "bottom")
OPTIONS: dict[str, Any] = {
    "epochs": 2,
    "refine_epochs": 1,
    "judge_epochs": 1,
    "batch_size": 16,
    "width": 8,
    "latent_dim": 3,
    "validation_fraction": 0.1,
}
