"""A flow as prior: p(z | y) by an ordinary differential equation from noise to latents.

The flow's velocity is a small network on the flat latent, trained by flow matching (Lipman, Chen,
Ben-Hamu, Nickel and Le, "Flow matching for generative modeling", 2022) on the posteriors of the
training images, and integrated in a few fixed steps. Labels are sometimes left out while training,
so that generation can be guided: away from what images of any label have in common, towards the
label that is asked for (Ho and Salimans, "Classifier-free diffusion guidance", 2022).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor, nn

from datagen.model.config import FREQUENCIES, GeneratorConfig

# Of the velocity: 1 follows the label alone, more goes farther from what any label has.
GUIDANCE = 2.0
STEPS = 8
# The slowest and the fastest wave that stands for a time.
LOWEST_OCTAVE, HIGHEST_OCTAVE = -2.0, 5.0


class FlowBlock(nn.Module):
    """x + a small correction of x that depends on the condition; keeps the shape (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.condition = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, width) and a condition (B, width) to (B, width)."""
        hidden = self.first(self.norm(x)) + self.condition(condition)
        correction: Tensor = self.second(F.silu(hidden))
        return x + correction


class FlowPrior(nn.Module):
    """p(z | y): the velocity of a flow from N(0, I) at time 0 to latents at time 1.

    The flow works on latents of mean 0 and spread 1; `centre` and `spread`, (d,) each, are the mean
    and the spread of the model's latents.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        dims, width = config.latent_dim, config.flow_width
        # The label that says nothing stands behind the others.
        self.null_label = config.prior_classes
        self.start = nn.Linear(dims, width)
        self.time = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.label = nn.Embedding(config.prior_classes + 1, width)
        self.blocks = nn.ModuleList(FlowBlock(width) for _ in range(config.flow_blocks))
        self.norm = nn.LayerNorm(width)
        self.end = nn.Linear(width, dims)
        nn.init.zeros_(self.end.weight)
        self.register_buffer("centre", torch.zeros(dims))
        self.register_buffer("spread", torch.ones(dims))

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """Velocity (B, d) at places (B, d) and times (B,) in [0, 1], of labels (B,)."""
        octaves = torch.linspace(LOWEST_OCTAVE, HIGHEST_OCTAVE, FREQUENCIES, device=x.device)
        angle = time[:, None] * (2.0 * math.pi * 2.0**octaves)
        waves = torch.cat([angle.sin(), angle.cos()], dim=1)
        condition = F.silu(self.time(waves) + self.label(label))
        hidden = self.start(x)
        for block in self.blocks:
            hidden = block(hidden, condition)
        velocity: Tensor = self.end(F.silu(self.norm(hidden)))
        return velocity

    def rows(self, label: Tensor) -> Tensor:
        """The row of each label: its own, or the only one."""
        return label if self.null_label > 1 else torch.zeros_like(label)

    def whitened(self, latent: Tensor) -> Tensor:
        """Latents (B, d) as the flow sees them."""
        return (latent - self.centre) / self.spread

    def transport(
        self, noise: Tensor, label: Tensor, latent: Tensor | None = None, strength: float = 1.0
    ) -> Tensor:
        """Latents (B, d) of labels (B,) from standard normals (B, d).

        Args:
            noise: where the flow begins.
            label: int64 (B,).
            latent: latents to begin from in part, (B, d); None begins from noise alone.
            strength: how far back towards noise the flow begins, from 0, which gives `latent`
                itself, to 1, which begins from noise alone.
        """
        start = 1.0 - strength if latent is not None else 0.0
        x = noise
        if latent is not None:
            x = strength * noise + start * self.whitened(latent)
        row = self.rows(label)
        guided = self.null_label > 1
        both = torch.cat([row, torch.full_like(row, self.null_label)]) if guided else row
        times = torch.linspace(start, 1.0, STEPS + 1, dtype=torch.float64).tolist()
        for now, then in pairwise(times):
            places = torch.cat([x, x]) if guided else x
            time = places.new_full((len(places),), now)
            velocity = self(places, time, both).float()
            if guided:
                with_label, without = velocity.chunk(2)
                velocity = without + GUIDANCE * (with_label - without)
            x = x + (then - now) * velocity
        return x * self.spread + self.centre
