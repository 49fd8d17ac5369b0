"""Perceptual distance: what a classifier sees of a reconstruction beside what it sees of its image.

A likelihood of pixels counts a thin crack as little as any other few pixels; a classifier that has
learnt the labels tells by it what the image is. Its hidden values, compared layer by layer beside
the bound, keep such details (Hou, Shen, Sun and Qiu, "Deep feature consistent variational
autoencoder", 2017; Johnson, Alahi and Fei-Fei, "Perceptual losses", 2016). The network is trained
for that alone: the judge takes no part in training the generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor, nn

from datagen.model.data import TrainingData, generator_at, looked_at_once
from datagen.model.devices import fast_precision
from datagen.model.training_options import TrainingOptions
from datagen.quality.judge import Judge, JudgeFit, gains_from_fast_precision

# Pixels by which both images are shifted, chosen again at every step: the network folds and pools
# its input, and what only shows at one phase of that would be a chequered pattern in the image.
LARGEST_SHIFT = 3
SCALED_BY = 256
LEAST_SCALE = 1e-3


class FeatureFit(JudgeFit):
    """The training of the network whose hidden values are compared, as a stage."""

    name = "features"

    def __init__(
        self, network: Judge, data: TrainingData, held_out: TrainingData, options: TrainingOptions
    ) -> None:
        super().__init__(network, data, held_out, options, options.feature_epochs)


@dataclass(frozen=True)
class PerceptualDistance:
    """Mean absolute difference of a trained network's hidden values, layer by layer.

    Attributes:
        network: a trained classifier of the images; it is not changed.
        scales: mean absolute value of each layer, by which its differences are divided.
        seed: of the shifts.
    """

    network: Judge
    scales: tuple[float, ...]
    seed: int

    @classmethod
    def of(cls, network: Judge, data: TrainingData, seed: int) -> PerceptualDistance:
        """The distance by a network that has learnt the labels of some images.

        Args:
            network: its hidden values are compared; frozen here.
            data: images (at least one) whose hidden values scale those of each layer.
            seed: of the shifts.
        """
        network.eval().requires_grad_(False)
        found = cls(network, (), seed)
        count = min(SCALED_BY, len(data), looked_at_once(data.images[0].numel()))
        image, _ = data.rows(torch.linspace(0, len(data) - 1, count).long())
        with torch.no_grad():
            values = [float(layer.float().abs().mean()) for layer in found._layers(image)]
        # Rounded, so that they do not tell one machine's last bits from another's.
        scales = tuple(max(LEAST_SCALE, float(f"{value:.3g}")) for value in values)
        return cls(network, scales, seed)

    def __call__(self, image: Tensor, reconstruction: Tensor, step: int) -> Tensor:
        """Distances (B,) of images (B, C, H, W) in [0, 1] to reconstructions of the same shape.

        Args:
            image: what is compared with; no gradient goes there.
            reconstruction: what is compared; gradients go through it.
            step: of the training; it determines the shift.
        """
        across, down = self._shift(step)
        with torch.no_grad():
            expected = [layer.float() for layer in self._layers(_shifted(image, across, down))]
        found = self._layers(_shifted(reconstruction, across, down))
        apart = [
            (mine.float() - theirs).abs().mean(dim=(1, 2, 3)) / scale
            for mine, theirs, scale in zip(found, expected, self.scales, strict=True)
        ]
        return torch.stack(apart).mean(dim=0)

    def _shift(self, step: int) -> tuple[int, int]:
        drawn = torch.randint(
            0, LARGEST_SHIFT + 1, (2,), generator=generator_at(self.seed, "features-shift", step)
        )
        return int(drawn[0]), int(drawn[1])

    def _layers(self, image: Tensor) -> Iterator[Tensor]:
        """The hidden values after each activation, (B, width, h, w) each."""
        is_fast = gains_from_fast_precision(self.network.config, image.device)
        precision = partial(fast_precision, image.device) if is_fast else nullcontext
        with precision():
            hidden = F.pad(image, self.network.padding)
            for layer in self.network.features:
                if isinstance(layer, nn.Flatten):
                    return
                hidden = layer(hidden)
                if isinstance(layer, nn.ReLU):
                    yield hidden


def _shifted(image: Tensor, across: int, down: int) -> Tensor:
    """Images (B, C, H, W) moved right and down, their edges repeated."""
    height, width = image.shape[2:]
    return F.pad(image, (across, 0, down, 0), mode="replicate")[:, :, :height, :width]
