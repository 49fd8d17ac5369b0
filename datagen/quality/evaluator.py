"""The evaluator: a classifier that has nothing in common with the judge but the real images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Far from the seeds of trainings, which count from the option's 0.
EVALUATOR_SEED = 7_919
# Sides are halved until this is left.
_LAST_SIDE = 4


class Evaluator(nn.Module):
    """A residual network with pooled features, for any H x W x C; the judge has neither."""

    def __init__(
        self, image_shape: tuple[int, int, int], class_count: int, width: int = 16
    ) -> None:
        super().__init__()
        channels, height, side = image_shape
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
        wide, longest = width, max(height, side)
        while longest > _LAST_SIDE:
            grown = min(2 * wide, 8 * width)
            layers += [nn.MaxPool2d(2, ceil_mode=True), _Residual(wide, grown)]
            wide, longest = grown, -(-longest // 2)
        layers += [nn.BatchNorm2d(wide), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(wide, class_count)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to logits of the classes, (B, K)."""
        logits: Tensor = self.head(self.hidden(image))
        return logits

    def hidden(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to the features that the head reads, (B, F)."""
        features: Tensor = self.features(image).mean(dim=(2, 3))
        return features


class _Residual(nn.Module):
    """Two convolutions beside a shortcut, normalized first (He et al., 2016)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
        )
        self.second = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False)
        )
        self.shortcut = (
            nn.Identity() if channels == width else nn.Conv2d(channels, width, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        out: Tensor = self.shortcut(x) + self.second(hidden)
        return out


def new_evaluator(
    image_shape: tuple[int, int, int], class_count: int, seed: int = EVALUATOR_SEED
) -> Evaluator:
    """An evaluator with the first weights of a seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Evaluator(image_shape, class_count)
