"""Encoder and decoder for any H x W x C.

Most work is done at a grid of positions that stand for `stride` x `stride` pixels each: pixels are
folded into channels on the way in and unfolded on the way out, so convolutions are few and dense.
Sides that are no multiple of the stride are padded on the way in and cropped on the way out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor, nn

from datagen.model.config import GeneratorConfig


class ResidualBlock(nn.Module):
    """x + a small correction of x; keeps the shape (B, width, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.project = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to the same."""
        # In place where nobody else needs the values: at this size memory costs as much as sums.
        correction: Tensor = self.project(F.relu_(self.mix(F.relu(x))))
        return x + correction


class Encoder(nn.Module):
    """Images, and labels where they are told, to the numbers that describe the latent."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        channels, height, width = config.image_shape
        rows, columns = config.grid
        self.stride = config.stride
        self.padding = (0, columns * config.stride - width, 0, rows * config.stride - height)
        wide = config.encoder_width
        self.fold = nn.Conv2d(channels * config.stride**2, wide, 3, padding=1)
        self.label = nn.Embedding(config.label_count, wide) if config.is_conditional else None
        self.blocks = nn.Sequential(*(ResidualBlock(wide) for _ in range(config.encoder_blocks)))
        self.answers = 1 if config.family == "autoencoder" else 2
        self.head = nn.Linear(wide * rows * columns, self.answers * config.latent_dim)

    def forward(self, image: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) in [0, 1] and (B,) to mean and logvar, or the mean alone, (B, d) each."""
        folded = F.pixel_unshuffle(F.pad(image, self.padding), self.stride)  # (B, C s^2, h, w)
        hidden = self.fold(folded)  # (B, width, h, w)
        if self.label is not None:
            # In the type of the sum's other part: else all that follows would be in float32.
            hidden = hidden + self.label(label).to(hidden.dtype)[:, :, None, None]
        hidden = F.relu(self.blocks(hidden))
        answers: tuple[Tensor, ...] = self.head(hidden.flatten(1)).chunk(self.answers, dim=1)
        return answers


class Decoder(nn.Module):
    """Latents, and labels where they are told, to the logits of pixels."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        channels, self.height, self.width = config.image_shape
        self.rows, self.columns = config.grid
        self.stride, self.wide = config.stride, config.width
        positions = self.rows * self.columns
        self.latent = nn.Linear(config.latent_dim, config.width * positions)
        wide = config.width * positions
        self.label = nn.Embedding(config.label_count, wide) if config.is_conditional else None
        self.blocks = nn.Sequential(*(ResidualBlock(config.width) for _ in range(config.blocks)))
        self.unfold = nn.Conv2d(config.width, channels * config.stride**2, 3, padding=1)

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        """(B, d) and (B,) to logits, (B, C, H, W)."""
        hidden = self.latent(latent)  # (B, width h w)
        if self.label is not None:
            hidden = hidden + self.label(label).to(hidden.dtype)
        hidden = hidden.view(-1, self.rows, self.columns, self.wide).permute(0, 3, 1, 2)
        hidden = F.relu(self.blocks(hidden))  # (B, width, h, w), channels last in memory
        pixels = F.pixel_shuffle(self.unfold(hidden), self.stride)
        return pixels[:, :, : self.height, : self.width]


def count_parameters(module: nn.Module) -> int:
    """Number of learnt values."""
    return sum(parameter.numel() for parameter in module.parameters())


def standard_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normals of a tensor's shape, type and device."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
