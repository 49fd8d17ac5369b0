"""The generators: a plain autoencoder, a variational one, and one that is told the label.

All three are the same two networks; they differ in what the encoder's answer means, and in whether
the networks see the label.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datagen.model.config import GeneratorConfig
from datagen.model.distributions import (
    Bernoulli,
    DiagonalGaussian,
    DiscretizedLogistic,
    Gaussian,
    Laplace,
    Likelihood,
    Point,
    Posterior,
)
from datagen.model.flow import FlowPrior
from datagen.model.networks import Decoder, Encoder, MultiScaleDecoder, MultiScaleEncoder
from datagen.model.priors import ClassPrior

# A spread of a tenth of the pixels' range; the data move it to where it belongs.
FIRST_LOG_SCALE = -2.3


class Autoencoder(nn.Module):
    """An encoder to points and a decoder: the baseline, which has no distribution to draw from.

    Latents can be drawn all the same, from normals fitted to the points of each class; nothing in
    its training has made the space between the points mean anything.
    """

    log_scale: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MultiScaleEncoder(config) if config.levels else Encoder(config)
        self.decoder = MultiScaleDecoder(config) if config.levels else Decoder(config)
        classes, dims = config.prior_classes, config.latent_dim
        # What the sampler `prior` draws from, and what the sampler `density` does.
        self.prior = ClassPrior(classes, 1, dims)
        self.density = ClassPrior(classes, config.components, dims)
        self.flow = FlowPrior(config) if config.flow_width else None
        channels = config.image_shape[0]
        if config.likelihood == "bernoulli":
            self.register_parameter("log_scale", None)
        else:
            self.log_scale = nn.Parameter(torch.full((channels,), FIRST_LOG_SCALE))

    def encode(self, image: Tensor, label: Tensor, transform: Tensor | None = None) -> Posterior:
        """What is known of the latents of images (B, C, H, W) in [0, 1] with labels (B,).

        Where the model is conditioned on them, `transform` (B, 5) says how images were transformed:
        turn, scale, shear and shifts across and down, as shares of the largest, -1 to 1.
        """
        return Point(self.encoder(image, label, transform)[0].float())

    def decode(self, latent: Tensor, label: Tensor, transform: Tensor | None = None) -> Tensor:
        """Logits (B, C, H, W) of latents (B, d) with labels (B,) and transforms (B, 5)."""
        logits: Tensor = self.decoder(latent, label, transform)
        return logits

    def forward(
        self, image: Tensor, label: Tensor, noise: Tensor, transform: Tensor | None = None
    ) -> tuple[Likelihood, Posterior]:
        """Reconstruct: images (B, C, H, W), labels (B,), standard normal noise (B, d)."""
        posterior = self.encode(image, label, transform)  # (B, d)
        latent = posterior.sample(noise)  # (B, d)
        return self.likelihood(latent, label, transform), posterior  # (B, C, H, W)

    def likelihood(
        self, latent: Tensor, label: Tensor, transform: Tensor | None = None
    ) -> Likelihood:
        """p(x | z, y) of latents (B, d) with labels (B,) and transforms (B, 5)."""
        logits = self.decode(latent, label, transform).float()
        if self.config.likelihood == "bernoulli":
            return Bernoulli(logits)
        if self.config.likelihood == "gaussian":
            return Gaussian(logits, self.log_scale)
        if self.config.likelihood == "laplace":
            return Laplace(logits, self.log_scale)
        return DiscretizedLogistic(logits, self.log_scale)

    def prior_of(self, label: Tensor) -> DiagonalGaussian | None:
        """The prior of training, p(z | y) of labels (B,); None means N(0, I)."""
        del label
        return None

    def draw(self, label: Tensor, noise: Tensor) -> Tensor:
        """Latents (B, d) of labels (B,) from the sampling prior and standard normals (B, d)."""
        if self.flow is not None:
            return self.flow.transport(noise, label)
        return self.prior.draw(label, noise)


class VAE(Autoencoder):
    """p(x | z) and q(z | x), unconditional (Kingma and Welling, 2013)."""

    def encode(
        self, image: Tensor, label: Tensor, transform: Tensor | None = None
    ) -> DiagonalGaussian:
        """Posterior of images (B, C, H, W) in [0, 1]; mean and logvar (B, d)."""
        mean, logvar = self.encoder(image, label, transform)
        return DiagonalGaussian(mean.float(), logvar.float())


class CVAE(VAE):
    """p(x | z, y) and q(z | x, y) (Sohn, Lee and Yan, 2015).

    The prior of *training* is N(0, I), or p(z | y) where that is trained along. The prior of
    *sampling* is by default the better one on held-out images of that and of one normal a class,
    fitted to the posterior samples: where images of a class do not fill all of N(0, I), drawing
    from it asks the decoder for latents that it has never seen.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        if config.learnt_prior:
            self.prior_mean = nn.Embedding(config.label_count, config.latent_dim)
            self.prior_logvar = nn.Embedding(config.label_count, config.latent_dim)
            nn.init.zeros_(self.prior_mean.weight)
            nn.init.zeros_(self.prior_logvar.weight)

    def prior_of(self, label: Tensor) -> DiagonalGaussian | None:
        """The prior of training, p(z | y) of labels (B,); None means N(0, I)."""
        if not self.config.learnt_prior:
            return None
        return DiagonalGaussian(self.prior_mean(label), self.prior_logvar(label))


FAMILIES: dict[str, type[Autoencoder]] = {"autoencoder": Autoencoder, "vae": VAE, "cvae": CVAE}


def make_generator(config: GeneratorConfig) -> Autoencoder:
    """A generator of the configuration's family, with fresh weights."""
    return FAMILIES[config.family](config)
