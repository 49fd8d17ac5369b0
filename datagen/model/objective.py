"""The evidence lower bound (ELBO), split into what it is made of."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from datagen.model.distributions import Bernoulli, DiagonalGaussian


@dataclass(frozen=True)
class Objective:
    """Batch means in nats; `loss` is what is minimised, the others are reported.

    Attributes:
        loss: weighted sum of the terms that the switches leave in.
        reconstruction: -E[log p(x | z, y)], by one sample.
        kl: KL(q(z | x, y) || N(0, I)).
    """

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor

    @property
    def negative_elbo(self) -> Tensor:
        """Reconstruction + KL: the bound itself, whatever was minimised."""
        return self.reconstruction + self.kl


def negative_elbo(
    likelihood: Bernoulli,
    image: Tensor,
    posterior: DiagonalGaussian,
    *,
    beta: float = 1.0,
    no_kl: bool = False,
    no_reconstruction: bool = False,
) -> Objective:
    """-ELBO = -E[log p(x | z, y)] + beta KL(q(z | x, y) || p(z)), a mean over the batch, in nats.

    Source: Kingma and Welling, "Auto-encoding variational Bayes", 2013; beta as in Higgins et al.,
    "beta-VAE", 2017; conditioning as in Sohn, Lee and Yan, 2015.

    Args:
        likelihood: the decoder's answer, for images of shape (B, C, H, W).
        image: pixels in [0, 1], (B, C, H, W).
        posterior: the encoder's answer, (B, d).
        beta: weight of the KL.
        no_kl: leave the KL out of the loss.
        no_reconstruction: leave the reconstruction out of the loss.
    """
    reconstruction = -likelihood.log_prob(image).mean()
    kl = posterior.kl().mean()
    loss = (0.0 if no_reconstruction else 1.0) * reconstruction + (0.0 if no_kl else beta) * kl
    return Objective(loss, reconstruction, kl)
