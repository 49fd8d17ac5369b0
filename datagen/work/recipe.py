"""The recipe: judge, fit, refine, measure; what `datagen train` does, slice by slice."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datagen.errors import InvalidRequest
from datagen.model.autoencoders import Autoencoder, make_generator
from datagen.model.checkpoint import save_checkpoint
from datagen.model.config import GeneratorConfig, TrainingOptions
from datagen.model.decoding import Decoder
from datagen.model.examples import save_examples
from datagen.model.fitting import examples_of, fit_density, fit_prior, posteriors
from datagen.model.header import CheckpointHeader
from datagen.model.refinement import Refinement
from datagen.model.samplers import Sampling, draw_latents
from datagen.model.training import (
    Fit,
    TrainingData,
    TrainingState,
    Watch,
    generator_at,
    held_out_elbo,
    run_stage,
)
from datagen.quality.judge import Judge, JudgeConfig, JudgeFit, Scorer, accuracy
from datagen.work.budget import planned_epochs

STATE = "state.safetensors"
GENERATOR = "generator.safetensors"
JUDGE = "judge.safetensors"
EXAMPLES = "examples.safetensors"
MEASURED_PER_CLASS = 1000
FEWEST_IMAGES = 2


def train(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    options: TrainingOptions,
    *,
    folder: Path,
    held_out: tuple[np.ndarray, np.ndarray] | None,
    device: torch.device,
    training_digest: str,
    on_progress: Callable[[dict[str, Any]], None],
    check: Callable[[], None],
    slice_seconds: float,
) -> bool:
    """Train until done (True), or until the slice's time is over (False).

    Done, `folder` holds GENERATOR and JUDGE with their metrics; else it holds STATE, from which
    the next call goes on with the same result as if it had not been interrupted.

    Args:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        class_names: the labels' names, in order.
        options: how to train.
        folder: where state and results lie.
        held_out: images and labels that only measure; a stratified share of the others if None.
        device: where to compute.
        training_digest: digest of the dataset, for the headers.
        on_progress: told every few steps how far the training is.
        check: called at every step; raises to stop.
        slice_seconds: how long this call may take, but for the last measurements.

    Raises:
        InvalidRequest: too few images.
        TrainingDiverged: a loss is no longer a number.
        InvalidFile: STATE is damaged.
    """
    if len(images) < FEWEST_IMAGES:
        raise InvalidRequest(
            f"{len(images)} images are too few; at least {FEWEST_IMAGES} are needed."
        )
    if held_out is None:
        images, labels, held_out = _split(images, labels, options)
        if len(images) < FEWEST_IMAGES:
            raise InvalidRequest(
                f"{len(images)} of the images would be left to train on, with a share of "
                f"{options.validation_fraction:g} held out; at least {FEWEST_IMAGES} are needed."
            )
    given = options.model_fields_set
    options = options.for_images(len(images), *images.shape[2:])
    data, measuring = _data(images, labels, device), _data(*held_out, device)
    path = folder / STATE
    state = TrainingState.load(path) if path.exists() else TrainingState()
    watch = Watch(on_progress, check, time.monotonic() + slice_seconds)
    model, judge = _modules(images.shape[1:], len(class_names), options, device)
    if options.time_budget is not None:
        # Measured once: a training that goes on keeps to its first plan, and so to its result.
        state.plan = state.plan or planned_epochs(model, judge, data, options, given)
        options = options.model_copy(update=state.plan)
    if not _run_stages(model, judge, data, measuring, options, state, watch):
        state.save(path)
        return False
    check()
    fitted = _fit_samplers(model, data, measuring, options, folder)
    metrics = fitted | _measure(model, judge, data, measuring, options, check)
    metrics["history"] = state.history
    shared = {
        "class_names": class_names,
        "image_shape": tuple(images.shape[1:]),
        "training_digest": training_digest,
        "options": options.model_dump(),
        "datagen_version": version("datagen"),
    }
    for name, module, kind in (
        (GENERATOR, model, options.family),
        (JUDGE, judge, "judge"),
    ):
        own = {"test_accuracy": metrics["judge_test_accuracy"]} if kind == "judge" else metrics
        header = CheckpointHeader.model_validate(
            {"kind": kind, "config": module.config.model_dump(), "metrics": own, **shared}
        )
        save_checkpoint(folder / name, module, header)
    return True


def _split(
    images: np.ndarray, labels: np.ndarray, options: TrainingOptions
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Hold a share of each class out, by seed; a class of one image stays in training."""
    order = torch.randperm(len(labels), generator=generator_at(options.seed, "split", 0)).numpy()
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        held[own[: int(len(own) * options.validation_fraction)]] = True
    return images[~held], labels[~held], (images[held], labels[held])


def _data(images: np.ndarray, labels: np.ndarray, device: torch.device) -> TrainingData:
    # A copy: the arrays may be maps of a file, which torch must not write to.
    return TrainingData(torch.tensor(images, device=device), torch.tensor(labels, device=device))


def _modules(
    shape: tuple[int, ...], classes: int, options: TrainingOptions, device: torch.device
) -> tuple[Autoencoder, Judge]:
    image_shape = (int(shape[0]), int(shape[1]), int(shape[2]))
    config = GeneratorConfig(
        family=options.family,
        image_shape=image_shape,
        class_count=classes,
        latent_dim=options.latent_dim,
        width=options.width,
        encoder_width=options.encoder_width,
        blocks=options.blocks,
        encoder_blocks=options.encoder_blocks,
        stride=options.stride,
        likelihood=options.likelihood,
        null_label=options.family == "cvae" and options.label_dropout > 0,
        learnt_prior=options.family == "cvae" and options.prior == "learnt",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = make_generator(config)
        # Its own seed: the judge knows nothing of the generator.
        torch.manual_seed(options.seed + 2)
        judge = Judge(JudgeConfig(image_shape=image_shape, class_count=classes))
    return (
        model.to(device).to(memory_format=torch.channels_last),
        judge.to(device).to(memory_format=torch.channels_last),
    )


def _run_stages(
    model: Autoencoder,
    judge: Judge,
    data: TrainingData,
    measuring: TrainingData,
    options: TrainingOptions,
    state: TrainingState,
    watch: Watch,
) -> bool:
    """Run what is left of judge, fit and refine; False where the slice is over."""
    state.restore_module("judge", judge)
    state.restore_module("generator", model)
    reached = state.stage or JudgeFit.name
    if reached == JudgeFit.name and not run_stage(
        JudgeFit(judge, data, measuring, options), state, watch
    ):
        return False
    if reached in {JudgeFit.name, Fit.name}:
        fit = Fit(model, data, measuring, options)
        if not run_stage(fit, state, watch):
            return False
        model.load_state_dict(fit.kept.state_dict())
        # The refinement draws from it.
        fit_prior(
            model,
            posteriors(model, data, options.seed),
            posteriors(model, measuring, options.seed),
            options.prior,
        )
    if options.refine_epochs:
        refinement = Refinement(model, data, measuring, options)
        if not run_stage(refinement, state, watch):
            return False
        model.load_state_dict(refinement.average.state_dict())
    return True


def _fit_samplers(
    model: Autoencoder,
    data: TrainingData,
    measuring: TrainingData,
    options: TrainingOptions,
    folder: Path,
) -> dict[str, Any]:
    """Fit what the samplers draw from, and write the examples; what was found out about them."""
    found = posteriors(model, data, options.seed)
    held_out = posteriors(model, measuring, options.seed)
    costs = fit_prior(model, found, held_out, options.prior)
    metrics: dict[str, Any] = {
        "prior": next(iter(costs)),
        "prior_nats": {name: round(cost, 3) for name, cost in costs.items()},
    }
    if options.density:
        tried = fit_density(model, found, held_out, options.seed)
        metrics["density_components"] = model.config.components
        metrics["density_nats"] = {str(number): round(cost, 3) for number, cost in tried.items()}
    if options.examples_per_class:
        save_examples(folder / EXAMPLES, examples_of(found, options.examples_per_class))
    return metrics


def _measure(
    model: Autoencoder,
    judge: Judge,
    data: TrainingData,
    measuring: TrainingData,
    options: TrainingOptions,
    check: Callable[[], None],
) -> dict[str, Any]:
    """What the model is worth, on images that it has not seen."""
    elbo = held_out_elbo(model, measuring, options.seed)
    device = data.images.device
    decoder, scorer = Decoder(model, device), Scorer(judge, device)
    agreement: list[float] = []
    variance: list[float | None] = []
    for label in range(model.config.class_count):
        check()
        labels = np.full(MEASURED_PER_CLASS, label, dtype=np.int64)
        index = np.arange(MEASURED_PER_CLASS) + label * MEASURED_PER_CLASS
        drawn = draw_latents(model, Sampling(), options.seed, index, np.zeros_like(index), labels)
        made = np.concatenate(list(decoder.tiles(drawn.latents, labels)))
        agreement.append(float((scorer.score(made).argmax(axis=1) == label).mean()))
        real = data.images[data.labels == label].cpu().numpy()
        spread = pixel_variance(real)
        variance.append(pixel_variance(made) / spread if spread else None)
    return {
        "held_out_images": len(measuring),
        "reconstruction": _rounded(elbo.get("reconstruction"), 3),
        "kl": _rounded(elbo.get("kl"), 3),
        "negative_elbo": _rounded(elbo.get("total"), 3),
        "judge_test_accuracy": _rounded(accuracy(judge, measuring), 5),
        "judge_agreement": round(float(np.mean(agreement)), 5),
        "judge_agreement_per_class": [round(value, 4) for value in agreement],
        "variance_ratio_per_class": [_rounded(value, 4) for value in variance],
    }


def _rounded(value: float | None, digits: int) -> float | None:
    """The value, or None where nothing was measured."""
    return None if value is None else round(value, digits)


def pixel_variance(images: np.ndarray) -> float:
    """Mean over the pixels of their variance over the images uint8 (N, C, H, W); 0 without any."""
    return float(images.var(axis=0, dtype=np.float64).mean()) if len(images) else 0.0
