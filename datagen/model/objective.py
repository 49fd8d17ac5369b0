"""The evidence lower bound (ELBO), split into what it is made of, and its switches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from datagen.model.distributions import DiagonalGaussian, Likelihood, Posterior

KlSchedule = Literal["constant", "linear", "cyclical"]
CYCLES = 4


@dataclass(frozen=True)
class Objective:
    """Batch means in nats; `loss` is what is minimised, the others are reported.

    Attributes:
        loss: weighted sum of the terms that the switches leave in.
        reconstruction: -E[log p(x | z, y)], by one sample.
        kl: KL(q(z | x, y) || p(z | y)).
    """

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor

    @property
    def negative_elbo(self) -> Tensor:
        """Reconstruction + KL: the bound itself, whatever was minimised."""
        return self.reconstruction + self.kl


def negative_elbo(
    likelihood: Likelihood,
    image: Tensor,
    posterior: Posterior,
    prior: DiagonalGaussian | None = None,
    *,
    beta: float = 1.0,
    free_bits: float = 0.0,
    no_kl: bool = False,
    no_reconstruction: bool = False,
) -> Objective:
    """-ELBO = -E[log p(x | z, y)] + beta KL(q(z | x, y) || p(z | y)), a batch mean, in nats.

    Source: Kingma and Welling, "Auto-encoding variational Bayes", 2013; beta as in Higgins et al.,
    "beta-VAE", 2017; free bits as in Kingma et al., "Improved variational inference with inverse
    autoregressive flow", 2016; conditioning as in Sohn, Lee and Yan, 2015.

    Args:
        likelihood: the decoder's answer, for images of shape (B, C, H, W).
        image: pixels in [0, 1], (B, C, H, W).
        posterior: the encoder's answer, (B, d).
        prior: p(z | y) of each image's label, (B, d); N(0, I) if None.
        beta: weight of the KL.
        free_bits: nats a dimension that the KL, as a mean over the batch, may have for nothing.
        no_kl: leave the KL out of the loss.
        no_reconstruction: leave the reconstruction out of the loss.
    """
    reconstruction = -likelihood.log_prob(image).mean()
    per_dimension = posterior.kl_per_dimension(prior).mean(dim=0)  # (d,)
    kl = per_dimension.sum()
    paid = torch.clamp(per_dimension, min=free_bits).sum() if free_bits else kl
    loss = (0.0 if no_reconstruction else 1.0) * reconstruction + (0.0 if no_kl else beta) * paid
    return Objective(loss, reconstruction, kl)


def kl_weight(schedule: KlSchedule, step: int, steps: int, warmup: float) -> float:
    """Share of beta that counts at a step, from 0 to 1.

    `linear` rises over the first `warmup` of the training (Bowman et al., 2016). `cyclical` does so
    four times: it rises over the first half of each cycle and stays at 1 over the second (Fu et
    al., 2019). `constant` is 1.

    Args:
        schedule: its name.
        step: number of the step, from 0.
        steps: all steps of the training.
        warmup: share of the steps, 0 to 1; it counts for `linear` alone.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        rising = warmup * steps
        return 1.0 if step >= rising else step / rising
    return min(1.0, 2.0 * (step * CYCLES % steps) / steps)
