"""The conditional variational autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datagen.model.config import CVAEConfig
from datagen.model.distributions import Bernoulli, DiagonalGaussian
from datagen.model.networks import Decoder, Encoder


class CVAE(nn.Module):
    """p(x | z, y) and q(z | x, y) as two small convolutional networks (Sohn, Lee and Yan, 2015).

    The prior of *training* is N(0, I). The prior of *sampling* is one normal a class, fitted to
    the posterior samples of that class after training: where images of a class do not fill all of
    N(0, I), drawing from it asks the decoder for latents that it has never seen.
    """

    prior_mean: Tensor
    prior_scale: Tensor

    def __init__(self, config: CVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        classes, dims = config.class_count, config.latent_dim
        self.register_buffer("prior_mean", torch.zeros(classes, dims))
        self.register_buffer("prior_scale", torch.eye(dims).expand(classes, dims, dims).clone())

    def encode(self, image: Tensor, label: Tensor) -> DiagonalGaussian:
        """Posterior of images (B, C, H, W) in [0, 1] with labels (B,); mean and logvar (B, d)."""
        mean, logvar = self.encoder(image, label)
        return DiagonalGaussian(mean.float(), logvar.float())

    def decode(self, latent: Tensor, label: Tensor) -> Tensor:
        """Logits (B, C, H, W) of latents (B, d) with labels (B,)."""
        logits: Tensor = self.decoder(latent, label)
        return logits

    def forward(
        self, image: Tensor, label: Tensor, noise: Tensor
    ) -> tuple[Bernoulli, DiagonalGaussian]:
        """Reconstruct: images (B, C, H, W), labels (B,), standard normal noise (B, d)."""
        posterior = self.encode(image, label)  # (B, d)
        latent = posterior.sample(noise)  # (B, d)
        return self.likelihood(latent, label), posterior  # (B, C, H, W)

    def likelihood(self, latent: Tensor, label: Tensor) -> Bernoulli:
        """p(x | z, y) of latents (B, d) with labels (B,)."""
        return Bernoulli(self.decode(latent, label).float())

    def draw(self, label: Tensor, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """Latents (B, d) of labels (B,) from the fitted prior and standard normal noise (B, d)."""
        spread = torch.einsum("bij,bj->bi", self.prior_scale[label], noise)
        return self.prior_mean[label] + temperature * spread
