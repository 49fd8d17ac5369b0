"""Priors p(z | y): normals and mixtures of normals, one a class."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class ClassPrior(nn.Module):
    """A mixture of normals with full covariance a class; one component makes it a normal.

    Begins as N(0, I) in every component. Nothing in it is trained by gradients: it is fitted, or
    set. Where the networks see no label there is one class, and every label means it.

    Attributes:
        share: probability of each component, (K, M).
        mean: its mean, (K, M, d).
        scale: lower triangular, its covariance being scale @ scale.T, (K, M, d, d).
    """

    share: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, classes: int, components: int, dims: int) -> None:
        super().__init__()
        self.register_buffer("share", torch.full((classes, components), 1.0 / max(1, components)))
        self.register_buffer("mean", torch.zeros(classes, components, dims))
        identity = torch.eye(dims).expand(classes, components, dims, dims).clone()
        self.register_buffer("scale", identity)

    @property
    def component_count(self) -> int:
        """Components a class."""
        return self.share.shape[1]

    def rows(self, label: Tensor) -> Tensor:
        """The row of each label: its own, or the only one."""
        return label if len(self.share) > 1 else torch.zeros_like(label)

    def draw(self, label: Tensor, noise: Tensor, choice: Tensor | None = None) -> Tensor:
        """Latents (B, d) of labels (B,).

        Args:
            label: int64 (B,).
            noise: standard normals, (B, d).
            choice: uniforms in [0, 1) that choose the component, (B,); None takes the first.
        """
        row = self.rows(label)
        component = torch.zeros_like(row)
        if choice is not None:
            bounds = self.share[row].cumsum(dim=1)  # (B, M)
            component = (choice[:, None] >= bounds[:, :-1]).sum(dim=1)
        spread = torch.einsum("bij,bj->bi", self.scale[row, component], noise)
        return self.mean[row, component] + spread

    def log_prob(self, latent: Tensor, label: Tensor) -> Tensor:
        """Log-density of latents (B, d) given labels (B,) in nats, (B,)."""
        found = latent.new_empty(len(latent))
        rows = self.rows(label)
        for row in range(len(self.share)):
            own = rows == row
            if bool(own.any()):
                found[own] = self._class_log_prob(latent[own], row)
        return found

    def _class_log_prob(self, latent: Tensor, row: int) -> Tensor:
        scale = self.scale[row].to(latent.dtype)  # (M, d, d)
        apart = latent[:, None, :] - self.mean[row].to(latent.dtype)  # (n, M, d)
        white = torch.linalg.solve_triangular(scale, apart.permute(1, 2, 0), upper=False)
        volume = scale.diagonal(dim1=1, dim2=2).abs().log().sum(dim=1)  # (M,)
        each = -0.5 * white.square().sum(dim=1) - volume[:, None]  # (M, n)
        each = each - 0.5 * latent.shape[1] * math.log(2.0 * math.pi)
        return torch.logsumexp(each + self.share[row].to(latent.dtype).log()[:, None], dim=0)
