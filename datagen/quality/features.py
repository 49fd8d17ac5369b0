"""Features: what distances between images are measured in, learnt from the domain's own images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from datagen.model.data import looked_at_once
from datagen.quality.judge import Judge

# Principal components that are kept: covariances of more need more images than people have.
KEPT = 64


@dataclass(frozen=True)
class Features:
    """A trained network's hidden values, brought down to their principal components.

    Attributes:
        network: a classifier of the real images, other than the one that gates.
        device: where it computes.
        mean: of the real images' hidden values, (D,).
        directions: the components, each scaled so that all of them together vary by 1, (D, F).
    """

    network: Judge
    device: torch.device
    mean: np.ndarray
    directions: np.ndarray

    @classmethod
    def of(cls, network: Judge, real: np.ndarray, device: torch.device) -> Features:
        """Features that real images uint8 (N, C, H, W) are told apart by."""
        hidden = _hidden(network, real, device)
        mean = hidden.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(hidden - mean, rowvar=False))
        kept = np.argsort(values)[::-1][:KEPT]
        whole = max(float(values[kept].sum()), 1e-12)
        return cls(network, device, mean, vectors[:, kept] / whole**0.5)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Features float32 (N, F) of images uint8 (N, C, H, W)."""
        hidden = _hidden(self.network, images, self.device)
        found: np.ndarray = ((hidden - self.mean) @ self.directions).astype(np.float32)
        return found


@torch.inference_mode()
def _hidden(network: Judge, images: np.ndarray, device: torch.device) -> np.ndarray:
    network.eval()
    size = looked_at_once(int(np.prod(images.shape[1:])))
    parts = []
    for start in range(0, len(images), size):
        image = torch.tensor(images[start : start + size]).to(device).float().div_(255.0)
        hidden = network.hidden(image.to(memory_format=torch.channels_last))
        parts.append(hidden.float().cpu().numpy())
    return np.concatenate(parts)
