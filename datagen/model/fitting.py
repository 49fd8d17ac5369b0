"""What is fitted after training: the prior of sampling, the density, and the examples."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from datagen.model.autoencoders import Autoencoder
from datagen.model.config import GeneratorConfig
from datagen.model.data import TrainingData, generator_at
from datagen.model.distributions import DiagonalGaussian
from datagen.model.examples import Examples
from datagen.model.networks import standard_noise
from datagen.model.priors import ClassPrior
from datagen.model.training_options import PriorName

# Tried in this order while each is better than the one before on images that are held out.
COMPONENTS = (1, 4, 16, 32)
# More do not change a mixture of so few components, and take their time.
SAMPLES_A_CLASS = 4000
# A component with fewer samples a dimension is a guess.
SAMPLES_A_DIMENSION = 4
_RIDGE = 1e-3


@dataclass(frozen=True)
class Posteriors:
    """Posteriors of images: `mean` and `spread` (N, d), a sample of each (N, d), labels (N,), and
    what the images are numbered as in their split (N,).
    """  # noqa: D205 - one sentence

    mean: Tensor
    spread: Tensor
    samples: Tensor
    labels: Tensor
    numbers: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@torch.no_grad()
def posteriors(
    model: Autoencoder,
    data: TrainingData,
    seed: int,
    check: Callable[[], None] = lambda: None,
    *,
    are_held_out: bool = False,
) -> Posteriors:
    """The posteriors of all images, in float64 on the CPU; points have no spread.

    Args:
        model: what encodes them.
        data: the images.
        seed: of the noise that their samples have.
        check: called now and then; raises to stop.
        are_held_out: whether the images decide between priors that were fitted to others. Their
            samples then have other noise: a prior that was fitted to the same noise looks better
            than it is, the more so the fewer images there are.
    """
    model.eval()
    dims = model.config.latent_dim
    nothing = torch.empty(0, dims, dtype=torch.float64)
    means, spreads, samples = [nothing], [nothing], [nothing]
    for rows in data.pieces():
        check()
        image, label = data.rows(rows)
        generator = generator_at(seed, "held out" if are_held_out else "prior", int(rows[0]))
        noise = standard_noise(image.new_empty(len(image), dims), generator)
        found = model.encode(image, label)
        means.append(found.mean.double().cpu())
        wide = (
            (0.5 * found.logvar).exp()
            if isinstance(found, DiagonalGaussian)
            else torch.zeros_like(found.mean)
        )
        spreads.append(wide.double().cpu())
        samples.append(found.sample(noise).double().cpu())
    every = torch.arange(len(data))
    return Posteriors(
        torch.cat(means),
        torch.cat(spreads),
        torch.cat(samples),
        data.all_labels,
        data.numbers(every),
    )


def fit_normals(prior: ClassPrior, found: Posteriors) -> None:
    """Make a prior of one component the normal of each class's posterior samples.

    A class with fewer images than dimensions keeps a share of N(0, I) in its covariance.
    """
    dims = found.samples.shape[1]
    identity = torch.eye(dims, dtype=torch.float64)
    rows = prior.rows(found.labels)
    for number in range(len(prior.share)):
        own = found.samples[rows == number]
        if len(own) == 0:
            continue
        mean = own.mean(dim=0)
        covariance = (own - mean).T @ (own - mean) / len(own)
        # Shrunk towards N(0, I) as if that had been seen once a dimension.
        share = dims / (dims + len(own))
        scale = torch.linalg.cholesky((1 - share) * covariance + (share + 1e-6) * identity)
        prior.mean[number, 0] = mean.to(prior.mean)
        prior.scale[number, 0] = scale.to(prior.scale)


def fit_prior(
    model: Autoencoder, found: Posteriors, held_out: Posteriors, wanted: PriorName | None
) -> dict[str, float]:
    """Set what the sampler `prior` draws from: the one that is wanted, or the better one.

    Better is the one under which the posteriors of held-out images are cheaper: the smaller
    E[log q(z | x, y) - log p(z | y)], which is the bound's own KL for that prior. Points have no
    such KL; for them it is the density of the points alone.

    Returns:
        nats an image of each prior that was compared; the model's prior is the first.
    """
    candidates: dict[str, ClassPrior] = {}
    shape = (model.config.prior_classes, 1, model.config.latent_dim)
    trained = "learnt" if model.config.learnt_prior else "standard"
    for name in (trained, "normal"):
        candidates[name] = ClassPrior(*shape)
    if model.config.learnt_prior:
        _copy_learnt(model, candidates["learnt"])
    fit_normals(candidates["normal"], found)
    judged = held_out if len(held_out) else found
    costs = {name: _cost(prior, judged) for name, prior in candidates.items()}
    chosen = wanted if wanted in candidates else min(costs, key=lambda name: costs[name])
    model.prior.load_state_dict(candidates[str(chosen)].state_dict())
    return {str(chosen): costs[str(chosen)]} | costs


@torch.no_grad()
def _copy_learnt(model: Autoencoder, prior: ClassPrior) -> None:
    own = model.prior_of(torch.arange(model.config.class_count, device=model.prior.mean.device))
    assert own is not None  # noqa: S101 - for the type checker
    prior.mean[:, 0] = own.mean.cpu()
    prior.scale[:, 0] = torch.diag_embed((0.5 * own.logvar).exp()).cpu()


def _cost(prior: ClassPrior, found: Posteriors) -> float:
    """E[log q - log p] in nats an image."""
    cost = -prior.log_prob(found.samples, found.labels)
    spread = found.spread
    if bool((spread > 0).all()):
        cost = cost + DiagonalGaussian(found.mean, 2.0 * spread.log()).log_prob(found.samples)
    return float(cost.mean())


def fit_density(
    model: Autoencoder,
    found: Posteriors,
    held_out: Posteriors,
    seed: int,
    check: Callable[[], None] = lambda: None,
) -> dict[int, float]:
    """Fit a mixture a class, with as many components as held-out images ask for.

    The model's configuration and its `density` are replaced. `check` is called before each class;
    it raises to stop.

    Returns:
        nats an image of each number of components that was tried, on held-out posterior samples.
    """
    best, costs = density_of(model.config, found, held_out, seed, check)
    model.config = model.config.model_copy(update={"components": best.component_count})
    model.density = best.to(model.prior.mean.device)
    return costs


def density_of(
    config: GeneratorConfig,
    found: Posteriors,
    held_out: Posteriors,
    seed: int,
    check: Callable[[], None] = lambda: None,
) -> tuple[ClassPrior, dict[int, float]]:
    """A mixture a class, and nats an image of each number of components that was tried."""
    judged = held_out if len(held_out) else found
    costs: dict[int, float] = {}
    best = ClassPrior(config.prior_classes, 1, config.latent_dim)
    for components in COMPONENTS:
        tried = ClassPrior(config.prior_classes, components, config.latent_dim)
        fit_mixtures(tried, found, seed, check)
        costs[components] = -float(tried.log_prob(judged.samples, judged.labels).mean())
        if components != COMPONENTS[0] and costs[components] >= min(
            cost for number, cost in costs.items() if number != components
        ):
            break
        best = tried
    return best, costs


def fit_mixtures(
    prior: ClassPrior, found: Posteriors, seed: int, check: Callable[[], None] = lambda: None
) -> None:
    """Fit a mixture of full-covariance normals to each class's posterior samples, by EM.

    Where a class has too few samples for all components, it gets as many as it can feed; the others
    have no share.
    """
    dims = found.samples.shape[1]
    one = ClassPrior(len(prior.share), 1, dims)
    fit_normals(one, found)
    rows = prior.rows(found.labels)
    for number in range(len(prior.share)):
        check()
        own = found.samples[rows == number][:SAMPLES_A_CLASS].numpy()
        fed = min(prior.component_count, len(own) // (SAMPLES_A_DIMENSION * dims))
        prior.mean[number] = one.mean[number]
        prior.scale[number] = one.scale[number]
        prior.share[number] = 0.0
        prior.share[number, 0] = 1.0
        if fed > 1:
            _fit_class(prior, number, own, fed, seed)


def _fit_class(
    prior: ClassPrior, number: int, samples: np.ndarray, components: int, seed: int
) -> None:
    mixture = GaussianMixture(
        components, reg_covar=_RIDGE, max_iter=60, random_state=(seed + number) % 2**32
    )
    with warnings.catch_warnings():
        # Not wholly converged is good enough: held-out samples decide what is kept.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(samples)
    scale = np.linalg.cholesky(mixture.covariances_)
    prior.share[number, :components] = torch.from_numpy(mixture.weights_).to(prior.share)
    prior.mean[number, :components] = torch.from_numpy(mixture.means_).to(prior.mean)
    prior.scale[number, :components] = torch.from_numpy(scale).to(prior.scale)


def examples_of(found: Posteriors, per_class: int) -> Examples:
    """The first images of each class with their posteriors, at most `per_class` of each."""
    labels = found.labels.numpy()
    order = np.argsort(labels, kind="stable")
    rank = np.arange(len(order)) - np.searchsorted(labels[order], labels[order], side="left")
    kept = order[rank < per_class]
    return Examples(
        mean=found.mean.numpy()[kept].astype(np.float16),
        spread=found.spread.numpy()[kept].astype(np.float16),
        labels=labels[kept].astype(np.int64),
        rows=found.numbers.numpy()[kept].astype(np.int64),
    )
