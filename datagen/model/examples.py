"""Examples: posteriors of real images, kept beside a model for samplers that start from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from datagen.errors import InvalidFile, InvalidRequest

# Round a real example, the posterior's spread and this together: wide enough to differ from the
# example, narrow enough to keep its label.
WIDENING = 0.25
_NAMES = ("mean", "spread", "labels", "rows")


@dataclass(frozen=True)
class Examples:
    """Posteriors of real images, sorted by label.

    Attributes:
        mean: float16 of shape (E, d).
        spread: standard deviations, float16 of shape (E, d).
        labels: int64 of shape (E,), rising.
        rows: row of each image in the training split, int64 of shape (E,).
    """

    mean: np.ndarray
    spread: np.ndarray
    labels: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def choose(self, labels: np.ndarray, choices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two different examples of each label, as numbers of examples; one where there is one.

        Args:
            labels: int64 (N,).
            choices: uniforms in [0, 1), (N, 2).

        Raises:
            InvalidRequest: a label of which there is no example.
        """
        first = np.searchsorted(self.labels, labels, side="left")
        count = np.searchsorted(self.labels, labels, side="right") - first
        if np.any(count == 0):
            missing = int(labels[count == 0][0])
            raise InvalidRequest(
                f"The model keeps no real example of label number {missing}; use the sampler "
                "'prior' for it.",
                field="sampler",
            )
        one = np.minimum((choices[:, 0] * count).astype(np.int64), count - 1)
        step = 1 + np.minimum((choices[:, 1] * (count - 1)).astype(np.int64), count - 2)
        other = np.where(count > 1, (one + step) % count, one)
        return first + one, first + other


def save_examples(path: Path, examples: Examples) -> None:
    """Write examples as safetensors; the same bytes for the same examples."""
    path.write_bytes(save({name: np.ascontiguousarray(getattr(examples, name)) for name in _NAMES}))


def load_examples(path: Path, latent_dim: int) -> Examples:
    """Read what `save_examples` wrote. Raises InvalidFile."""
    try:
        found = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidFile(f"{path.name} is damaged: {error}.") from error
    if set(found) != set(_NAMES):
        raise InvalidFile(f"{path.name} holds no examples.")
    examples = Examples(**found)
    count = len(examples.labels)
    shapes = {examples.mean.shape, examples.spread.shape}
    if (
        shapes != {(count, latent_dim)}
        or examples.rows.shape != (count,)
        or np.any(np.diff(examples.labels) < 0)
        or not (np.isfinite(examples.mean).all() and np.isfinite(examples.spread).all())
    ):
        raise InvalidFile(f"{path.name} holds examples that do not fit the model.")
    return examples
