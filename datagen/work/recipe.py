"""The recipe: judge, fit, refine, measure; what `datagen train` does, slice by slice."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datagen.errors import InvalidFile, InvalidRequest
from datagen.images import LabelledImages
from datagen.model.autoencoders import Autoencoder, make_generator
from datagen.model.checkpoint import save_checkpoint
from datagen.model.config import TRAINING_COUNTS, GeneratorConfig, JudgeConfig, TrainingOptions
from datagen.model.data import TrainingData, generator_at
from datagen.model.decoding import Decoder
from datagen.model.examples import Examples, save_examples
from datagen.model.fit import Fit, held_out_elbo
from datagen.model.fitting import examples_of, fit_density, fit_prior, posteriors
from datagen.model.flow_fit import FlowFit
from datagen.model.header import CheckpointHeader
from datagen.model.networks import count_parameters
from datagen.model.refinement import Refinement
from datagen.model.samplers import Sampling, draw_latents
from datagen.model.state import TrainingState
from datagen.model.training import Stage, Watch, run_stage
from datagen.model.warm_start import start_from
from datagen.quality.judge import Judge, JudgeFit, Scorer, accuracy, calibrate
from datagen.quality.training_index import TrainingIndex, index_of, save_index
from datagen.schemas import Gate, Recommended
from datagen.work.budget import (
    EPOCHS_OF,
    measured_pace,
    planned_epochs,
    seconds_after,
    seconds_an_epoch,
)
from datagen.work.giving_way import GivingWay

# In this order: what is learnt from, what decides, what measures.
SPLITS = ("train", "validation", "test")
STATE = "state.safetensors"
GENERATOR = "generator.safetensors"
JUDGE = "judge.safetensors"
EXAMPLES = "examples.safetensors"
INDEX = "index.safetensors"
MEASURED_PER_CLASS = 1000
FEWEST_IMAGES = 2
# Of a sampler's images: beyond, a gate that refuses copies is seldom passed, and what passes is no
# longer what the sampler is for.
MOST_COPIES = 0.75
# Of a class, for a share of it to be held out unasked.
FEWEST_TO_HOLD_OUT = 50
# Of the label that the judge agrees with least: below, a gate leaves out too many images.
LEAST_AGREEMENT = 0.25


@dataclass(frozen=True)
class Parent:
    """The model that a training starts from.

    Attributes:
        model: its networks.
        class_names: its labels, in order.
        digest: SHA-256 of its checkpoint.
    """

    model: Autoencoder
    class_names: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Parts:
    """What a dataset's images are for, in a training.

    Attributes:
        train: what the generator and its judge learn from.
        validation: what decides: when to stop, which prior, how many components.
        test: what the finished model is measured on; it decides nothing.
        measured_on: name of the split that `test` comes from.
    """

    train: TrainingData
    validation: TrainingData
    test: TrainingData
    measured_on: str


def train(
    splits: Mapping[str, LabelledImages],
    options: TrainingOptions,
    *,
    folder: Path,
    device: torch.device,
    training_digest: str,
    on_progress: Callable[[dict[str, Any]], None],
    check: Callable[[], None],
    slice_seconds: float,
    giving_way: GivingWay | None = None,
    parent: Parent | None = None,
) -> bool:
    """Train until done (True), or until the slice's time is over (False).

    Done, `folder` holds GENERATOR and JUDGE with their metrics; else it holds STATE, from which
    the next call goes on with the same result as if it had not been interrupted.

    Args:
        splits: `train`, and where they are there `validation` and `test`. Where there is no
            `validation`, a stratified share of `train` stands in; without `test` the model is
            measured on what it was validated with.
        options: how to train.
        folder: where state and results lie.
        device: where to compute.
        training_digest: digest of the dataset, for the headers.
        on_progress: told every few steps how far the training is.
        check: called at every step; raises to stop.
        slice_seconds: how long this call may take, but for the last measurements.
        giving_way: asked at every step; the slice ends where it says so. None never ends it early.
        parent: the model whose weights are the first ones; the same in every call. None starts from
            nothing.

    Raises:
        InvalidRequest: too few images, or a parent of other images or networks.
        TrainingDiverged: a loss is no longer a number.
        InvalidFile: STATE is damaged, or of a training on other images.
    """
    parts = _parts(splits, options, device)
    images = splits["train"]
    given = options.model_fields_set
    counts = np.bincount(parts.train.all_labels.numpy(), minlength=len(images.class_names))
    if parent is not None:
        options = options.starting_from(parent.model.config, images.image_shape)
    options = options.for_images(counts.tolist(), images.image_shape)
    state = _state(folder / STATE, training_digest)
    watch = Watch(on_progress, check, time.monotonic() + slice_seconds)
    if giving_way is not None:
        watch = replace(watch, gives_way=giving_way.should_yield)
    model, judge = _modules(images.image_shape, len(images.class_names), options, device)
    if parent is not None:
        start_from(model, parent.model, images.class_names, parent.class_names)
    # Kept: a training that goes on keeps to the plan of the stage that it is in.
    state.pace = state.pace or measured_pace(model, judge, parts.train, options)
    if options.time_budget is not None:
        state.plan = state.plan or planned_epochs(
            options.time_budget, state.pace, given, options.judge_epochs
        )
        options = options.model_copy(update=state.plan)
    if giving_way is not None:
        giving_way.begin()
    if not _run_stages(model, judge, parts, options, state, watch, given):
        state.save(folder / STATE)
        return False
    options = options.model_copy(update=state.plan)
    check()
    temperature = calibrate(judge, parts.validation)
    fitted, examples = _fit_samplers(model, parts, options, folder)
    index = _training_index(parts.train, model.config.class_count)
    save_index(folder / INDEX, index)
    metrics = fitted | _measure(model, judge, parts, options, examples, index, check)
    metrics |= {"judge_temperature": temperature, "history": state.history}
    metrics[TRAINING_COUNTS] = counts.tolist()
    shared = {
        "class_names": images.class_names,
        "image_shape": images.image_shape,
        "training_digest": training_digest,
        "parent_digest": None if parent is None else parent.digest,
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


def _parts(
    splits: Mapping[str, LabelledImages], options: TrainingOptions, device: torch.device
) -> Parts:
    data = {
        name: TrainingData.on(device, found.images, found.labels) for name, found in splits.items()
    }
    train = data["train"]
    if len(train) < FEWEST_IMAGES:
        raise InvalidRequest(
            f"{len(train)} images are too few; at least {FEWEST_IMAGES} are needed."
        )
    validation = data.get("validation")
    if validation is None:
        train, validation = _held_out(train, options)
        if len(train) < FEWEST_IMAGES:
            raise InvalidRequest(
                f"{len(train)} of the images would be left to train on, with a share of "
                f"{options.validation_fraction:g} held out; at least {FEWEST_IMAGES} are needed."
            )
    # What is not learnt cannot be measured, and must not decide.
    validation = _learnt(validation, train)
    test = _learnt(data["test"], train) if "test" in data else None
    if test is None or not len(test):
        return Parts(train, validation, validation, "validation")
    return Parts(train, validation, test, "test")


def _learnt(data: TrainingData, train: TrainingData) -> TrainingData:
    """The images of those classes alone that there are training images of."""
    known = torch.isin(data.all_labels, train.all_labels)
    return data if bool(known.all()) else data.subset(torch.nonzero(known)[:, 0])


def _held_out(data: TrainingData, options: TrainingOptions) -> tuple[TrainingData, TrainingData]:
    """Hold a share of each class out, by seed; a class of one image stays in training.

    So does a small class where nobody asked for a share: a few images teach more than they tell.
    """
    least = 0 if "validation_fraction" in options.model_fields_set else FEWEST_TO_HOLD_OUT
    labels = data.all_labels.numpy()
    order = torch.randperm(len(labels), generator=generator_at(options.seed, "split", 0)).numpy()
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        if len(own) >= least:
            held[own[: int(len(own) * options.validation_fraction)]] = True
    train, validation = np.flatnonzero(~held), np.flatnonzero(held)
    return data.subset(torch.from_numpy(train)), data.subset(torch.from_numpy(validation))


def _state(path: Path, dataset: str) -> TrainingState:
    """What a training goes on from, or the beginning of one. Raises InvalidFile."""
    if not path.exists():
        return TrainingState(dataset=dataset)
    state = TrainingState.load(path)
    if state.dataset != dataset:
        raise InvalidFile(
            f"The training began on the dataset {state.dataset[:16]}… and would go on with "
            f"{dataset[:16]}…; its images were changed, so train again."
        )
    return state


def _modules(
    image_shape: tuple[int, int, int],
    classes: int,
    options: TrainingOptions,
    device: torch.device,
) -> tuple[Autoencoder, Judge]:
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
        levels=options.levels,
        detail_width=options.detail_width,
        transform_condition=options.levels > 0 and options.augment != "none",
        flow_width=options.flow_width if options.prior == "flow" else 0,
        flow_blocks=options.flow_blocks,
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
    parts: Parts,
    options: TrainingOptions,
    state: TrainingState,
    watch: Watch,
    given: AbstractSet[str],
) -> bool:
    """Run what is left of judge, fit, flow and refine; False where the slice is over."""

    def run(stage: Stage) -> bool:
        return run_stage(stage, state, watch, seconds_after(stage.name, state.pace, options))

    state.restore_module("judge", judge)
    state.restore_module("generator", model)
    reached = state.stage or JudgeFit.name
    if reached == JudgeFit.name and not run(
        JudgeFit(judge, parts.train, parts.validation, options)
    ):
        return False
    if reached in {JudgeFit.name, Fit.name}:
        if reached == JudgeFit.name:
            nothing = parts.train.subset(torch.arange(0))
            trial = Fit(copy.deepcopy(model), parts.train, nothing, options)
            options = _planned_anew(trial, options, state, given)
        fit = Fit(model, parts.train, parts.validation, options)
        if not run(fit):
            return False
        model.load_state_dict(fit.kept.state_dict())
        # The refinement draws from it.
        fit_prior(
            model,
            posteriors(model, parts.train, options.seed),
            posteriors(model, parts.validation, options.seed),
            options.prior,
        )
    if model.flow is not None and reached != Refinement.name:
        flow = FlowFit(model, parts.train, parts.validation, options)
        if not run(flow):
            return False
        model.flow.load_state_dict(flow.kept.state_dict())
    if options.refine_epochs:
        refinement = Refinement(model, parts.train, parts.validation, options)
        if not run(refinement):
            return False
        model.load_state_dict(refinement.average.state_dict())
    return True


def _planned_anew(
    trial: Stage, options: TrainingOptions, state: TrainingState, given: AbstractSet[str]
) -> TrainingOptions:
    """The options with as many epochs of a stage that begins as its time has room for now.

    At the start of a training others may have used the machine, or not yet.
    """
    if options.time_budget is None or EPOCHS_OF[trial.name] in given:
        return options
    state.pace[trial.name] = seconds_an_epoch(trial)
    name = EPOCHS_OF[trial.name]
    plan = planned_epochs(options.time_budget, state.pace, given, options.judge_epochs)
    state.plan[name] = plan[name]
    return options.model_copy(update=state.plan)


def _fit_samplers(
    model: Autoencoder, parts: Parts, options: TrainingOptions, folder: Path
) -> tuple[dict[str, Any], Examples | None]:
    """Fit what the samplers draw from, and write the examples; what was found out about them."""
    found = posteriors(model, parts.train, options.seed)
    held_out = posteriors(model, parts.validation, options.seed)
    costs = fit_prior(model, found, held_out, options.prior)
    metrics: dict[str, Any] = {
        "prior": next(iter(costs)) if model.flow is None else "flow",
        "prior_nats": {name: round(cost, 3) for name, cost in costs.items()},
    }
    if options.density:
        tried = fit_density(model, found, held_out, options.seed)
        metrics["density_components"] = model.config.components
        metrics["density_nats"] = {str(number): round(cost, 3) for number, cost in tried.items()}
    examples = None
    if options.examples_per_class:
        examples = examples_of(found, options.examples_per_class)
        save_examples(folder / EXAMPLES, examples)
    return metrics, examples


def _training_index(data: TrainingData, class_count: int) -> TrainingIndex:
    found = index_of(
        lambda rows: data.pixels(torch.from_numpy(rows)), data.all_labels.numpy(), class_count
    )
    return replace(found, rows=data.numbers(torch.from_numpy(found.rows)).numpy())


def _measure(
    model: Autoencoder,
    judge: Judge,
    parts: Parts,
    options: TrainingOptions,
    examples: Examples | None,
    index: TrainingIndex,
    check: Callable[[], None],
) -> dict[str, Any]:
    """What the model is worth, on images that it has not seen, and how to draw from it."""
    elbo = held_out_elbo(model, parts.test, options.seed)
    found = {
        sampler: _measure_sampler(
            sampler, model, judge, parts.train, options, examples, index, check
        )
        for sampler in _samplers(model, examples)
    }
    samplers = [name for name, own in found.items() if own.copy_rate <= MOST_COPIES] or ["prior"]
    agreement, variance = found[samplers[0]].agreement, found[samplers[0]].variance
    return {
        "recommended": _recommended(samplers, agreement),
        "measured_on": parts.measured_on,
        "held_out_images": len(parts.test),
        "parameters": count_parameters(model),
        "reconstruction": _rounded(elbo.get("reconstruction"), 3),
        "kl": _rounded(elbo.get("kl"), 3),
        "negative_elbo": _rounded(elbo.get("total"), 3),
        "judge_test_accuracy": _rounded(accuracy(judge, parts.test), 5),
        "judge_agreement": round(_mean(agreement), 5),
        "judge_agreement_per_class": [_rounded(value, 4) for value in agreement],
        "judge_agreement_by_sampler": {
            sampler: round(_mean(own.agreement), 5) for sampler, own in found.items()
        },
        "copy_rate_by_sampler": {
            sampler: round(own.copy_rate, 5) for sampler, own in found.items()
        },
        "variance_ratio_per_class": [_rounded(value, 4) for value in variance],
    }


def _samplers(model: Autoencoder, examples: Examples | None) -> list[str]:
    """The samplers that the model keeps something for, those that teach best first.

    In that order by classifiers that learnt from their images; `docs/quality.md` has the figures.
    """
    kept = {
        "neighbour": examples is not None,
        "interpolate": examples is not None,
        "density": model.config.components > 0,
        "prior": True,
    }
    if model.flow is not None:
        kept = {"prior": True} | kept
    return [sampler for sampler, is_kept in kept.items() if is_kept]


def _recommended(samplers: list[str], agreement: list[float | None]) -> dict[str, Any]:
    """How images are best drawn, for whoever asks for nothing else.

    No gate where the judge disagrees so often that many an image would be left out.
    """
    least = min(value for value in agreement if value is not None)
    gate = Gate(on_shortfall="keep") if least >= LEAST_AGREEMENT else None
    found = Recommended.model_validate({"samplers": samplers, "gate": gate})
    return found.model_dump(mode="json")


@dataclass(frozen=True)
class _Measured:
    """Of a sampler's images: of each class, how often the judge agrees and how much images vary, as
    a share of real ones; and how many are copies of training images. None of a class that was not
    learnt.
    """  # noqa: D205 - one sentence

    agreement: list[float | None]
    variance: list[float | None]
    copy_rate: float


def _measure_sampler(
    sampler: str,
    model: Autoencoder,
    judge: Judge,
    train: TrainingData,
    options: TrainingOptions,
    examples: Examples | None,
    index: TrainingIndex,
    check: Callable[[], None],
) -> _Measured:
    """What a sampler's images are like; a class without training images is left out."""
    decoder, scorer = Decoder(model, train.device), Scorer(judge, train.device)
    known = train.all_labels
    agreement: list[float | None] = []
    variance: list[float | None] = []
    copies: list[float] = []
    for label in range(model.config.class_count):
        check()
        labels = np.full(MEASURED_PER_CLASS, label, dtype=np.int64)
        number = np.arange(MEASURED_PER_CLASS) + label * MEASURED_PER_CLASS
        real = torch.nonzero(known == label)[:MEASURED_PER_CLASS, 0]
        if not len(real):
            agreement.append(None)
            variance.append(None)
            continue
        drawn = draw_latents(
            model, Sampling(sampler), options.seed, number, np.zeros_like(number), labels, examples
        )
        made = np.concatenate(list(decoder.tiles(drawn.latents, labels)))
        agreement.append(float((scorer.score(made).argmax(axis=1) == label).mean()))
        spread = pixel_variance(train.pixels(real))
        variance.append(pixel_variance(made) / spread if spread else None)
        copies.append(float(index.copies(made, labels).mean()))
    return _Measured(agreement, variance, float(np.mean(copies)) if copies else 0.0)


def _rounded(value: float | None, digits: int) -> float | None:
    """The value, or None where nothing was measured."""
    return None if value is None else round(value, digits)


def _mean(values: Sequence[float | None]) -> float:
    """Mean of what was measured."""
    return float(np.mean([value for value in values if value is not None]))


def pixel_variance(images: np.ndarray) -> float:
    """Mean over the pixels of their variance over the images uint8 (N, C, H, W); 0 without any."""
    return float(images.var(axis=0, dtype=np.float64).mean()) if len(images) else 0.0
