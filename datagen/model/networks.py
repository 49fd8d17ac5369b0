"""Encoder and decoder for any H x W x C.

Most work is done at a grid of positions that stand for `stride` x `stride` pixels each: pixels are
folded into channels on the way in and unfolded on the way out, so convolutions are few and dense.
Sides that are no multiple of the stride are padded on the way in and cropped on the way out.

The single-scale networks stay at that grid, which is enough for strokes on black. The multi-scale
ones halve it level by level and double the channels, so that few layers see the whole picture.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor, nn

from datagen.model.config import NECK_WIDTH, TRANSFORM_VALUES, GeneratorConfig


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
        self.transform = _of_transform(config, wide)
        self.blocks = nn.Sequential(*(ResidualBlock(wide) for _ in range(config.encoder_blocks)))
        self.answers = 1 if config.family == "autoencoder" else 2
        self.head = nn.Linear(wide * rows * columns, self.answers * config.latent_dim)

    def forward(
        self, image: Tensor, label: Tensor, transform: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Images (B, C, H, W) in [0, 1] to mean and logvar, or the mean alone, (B, d) each.

        Args:
            image: pixels.
            label: int64 (B,).
            transform: how each image was transformed, (B, 5); None where none was.
        """
        folded = F.pixel_unshuffle(F.pad(image, self.padding), self.stride)  # (B, C s^2, h, w)
        hidden = self.fold(folded)  # (B, width, h, w)
        if self.label is not None:
            # In the type of the sum's other part: else all that follows would be in float32.
            hidden = hidden + self.label(label).to(hidden.dtype)[:, :, None, None]
        if self.transform is not None and transform is not None:
            hidden = hidden + self.transform(transform).to(hidden.dtype)[:, :, None, None]
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
        self.transform = _of_transform(config, wide)
        self.blocks = nn.Sequential(*(ResidualBlock(config.width) for _ in range(config.blocks)))
        self.unfold = nn.Conv2d(config.width, channels * config.stride**2, 3, padding=1)

    def forward(self, latent: Tensor, label: Tensor, transform: Tensor | None = None) -> Tensor:
        """Latents (B, d) to logits, (B, C, H, W).

        Args:
            latent: what is decoded.
            label: int64 (B,).
            transform: how the image is to be transformed, (B, 5); None where it is not.
        """
        hidden = self.latent(latent)  # (B, width h w)
        if self.label is not None:
            hidden = hidden + self.label(label).to(hidden.dtype)
        if self.transform is not None and transform is not None:
            hidden = hidden + self.transform(transform).to(hidden.dtype)
        hidden = hidden.view(-1, self.rows, self.columns, self.wide).permute(0, 3, 1, 2)
        hidden = F.relu(self.blocks(hidden))  # (B, width, h, w), channels last in memory
        pixels = F.pixel_shuffle(self.unfold(hidden), self.stride)
        return pixels[:, :, : self.height, : self.width]


def _of_transform(config: GeneratorConfig, width: int) -> nn.Linear | None:
    """What a transform adds to so many hidden values; None where nothing depends on it."""
    return nn.Linear(TRANSFORM_VALUES, width, bias=False) if config.transform_condition else None


class Conditions(nn.Module):
    """Label and transform as a term of the hidden values at the coarsest level."""

    def __init__(self, config: GeneratorConfig, width: int) -> None:
        super().__init__()
        self.label = nn.Embedding(config.label_count, width) if config.is_conditional else None
        self.transform = _of_transform(config, width)

    def forward(self, hidden: Tensor, label: Tensor, transform: Tensor | None) -> Tensor:
        """(B, width, h, w) with labels (B,) and transforms (B, 5) to the same; None transforms
        nothing.
        """  # noqa: D205 - one sentence
        # In the type of the sum's other part: else all that follows would be in float32.
        if self.label is not None:
            hidden = hidden + self.label(label).to(hidden.dtype)[:, :, None, None]
        if self.transform is not None and transform is not None:
            hidden = hidden + self.transform(transform).to(hidden.dtype)[:, :, None, None]
        return hidden


def _level(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))


class MultiScaleEncoder(nn.Module):
    """Images to the numbers that describe the latent, through grids of halved sides."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        channels, height, width = config.image_shape
        rows, columns = config.coarsest_grid
        whole = config.stride * 2 ** (config.levels - 1)
        self.stride = config.stride
        self.padding = (0, columns * whole - width, 0, rows * whole - height)
        widths = config.level_widths(config.encoder_width)
        self.fold = nn.Conv2d(channels * config.stride**2, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(_level(wide, config.encoder_blocks) for wide in widths)
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 4, stride=2, padding=1) for fine, coarse in pairwise(widths)
        )
        self.conditions = Conditions(config, widths[-1])
        self.neck = nn.Conv2d(widths[-1], NECK_WIDTH, 1)
        self.answers = 1 if config.family == "autoencoder" else 2
        self.head = nn.Linear(NECK_WIDTH * rows * columns, self.answers * config.latent_dim)

    def forward(
        self, image: Tensor, label: Tensor, transform: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Images (B, C, H, W) in [0, 1] to mean and logvar, or the mean alone, (B, d) each.

        Args:
            image: pixels.
            label: int64 (B,).
            transform: how each image was transformed, (B, 5); None where none was.
        """
        centred = F.pad(image, self.padding).mul(2.0).sub(1.0)
        hidden = self.levels[0](self.fold(F.pixel_unshuffle(centred, self.stride)))
        for down, level in zip(self.down, self.levels[1:], strict=True):
            hidden = level(down(F.relu(hidden)))
        hidden = F.relu(self.neck(F.relu(self.conditions(hidden, label, transform))))
        answers: tuple[Tensor, ...] = self.head(hidden.flatten(1)).chunk(self.answers, dim=1)
        return answers


class MultiScaleDecoder(nn.Module):
    """Latents to the logits of pixels, through grids of doubled sides."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        channels, self.height, self.width = config.image_shape
        self.rows, self.columns = config.coarsest_grid
        self.stride = config.stride
        widths = config.level_widths(config.width)[::-1]
        self.latent = nn.Linear(config.latent_dim, NECK_WIDTH * self.rows * self.columns)
        self.widen = nn.Conv2d(NECK_WIDTH, widths[0], 3, padding=1)
        self.conditions = Conditions(config, widths[0])
        self.levels = nn.ModuleList(_level(wide, config.blocks) for wide in widths)
        self.up = nn.ModuleList(
            nn.Conv2d(coarse, 4 * fine, 3, padding=1) for coarse, fine in pairwise(widths)
        )
        # A last look at half the stride: edges are narrower than a position of the finest grid.
        self.detail = self.detail_block = None
        last, fold = widths[-1], config.stride
        if config.detail_width:
            self.detail = nn.Conv2d(last, 4 * config.detail_width, 3, padding=1)
            self.detail_block = ResidualBlock(config.detail_width)
            last, fold = config.detail_width, config.stride // 2
        self.last_fold = fold
        self.unfold = nn.Conv2d(last, channels * fold**2, 3, padding=1)

    def forward(self, latent: Tensor, label: Tensor, transform: Tensor | None = None) -> Tensor:
        """Latents (B, d) to logits, (B, C, H, W).

        Args:
            latent: what is decoded.
            label: int64 (B,).
            transform: how the image is to be transformed, (B, 5); None where it is not.
        """
        hidden = self.latent(latent).view(-1, self.rows, self.columns, NECK_WIDTH)
        hidden = self.conditions(self.widen(hidden.permute(0, 3, 1, 2)), label, transform)
        hidden = self.levels[0](hidden)
        for up, level in zip(self.up, self.levels[1:], strict=True):
            hidden = level(F.pixel_shuffle(up(F.relu(hidden)), 2))
        if self.detail is not None and self.detail_block is not None:
            hidden = self.detail_block(F.pixel_shuffle(self.detail(F.relu(hidden)), 2))
        pixels = F.pixel_shuffle(self.unfold(F.relu(hidden)), self.last_fold)
        return pixels[:, :, : self.height, : self.width]


def count_parameters(module: nn.Module) -> int:
    """Number of learnt values."""
    return sum(parameter.numel() for parameter in module.parameters())


def standard_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normals of a tensor's shape, type and device."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
