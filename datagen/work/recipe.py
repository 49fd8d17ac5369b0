"""The recipe: judge, fit, refine, measure; what `datagen train` does, slice by slice."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datagen.errors import InvalidFile
from datagen.images import LabelledImages
from datagen.model.autoencoders import Autoencoder, make_generator
from datagen.model.checkpoint import save_checkpoint
from datagen.model.config import TRAINING_COUNTS, GeneratorConfig, JudgeConfig
from datagen.model.data import TrainingData, mid_tones
from datagen.model.examples import Examples, save_examples
from datagen.model.fit import Fit
from datagen.model.fitting import examples_of, fit_density, fit_prior, posteriors
from datagen.model.flow_fit import FlowFit
from datagen.model.grain import grains_to_try
from datagen.model.header import CheckpointHeader
from datagen.model.refinement import Refinement
from datagen.model.state import TrainingState
from datagen.model.training import MOST_TOLD, Stage, Watch, run_stage
from datagen.model.training_options import TrainingOptions
from datagen.model.warm_start import start_from
from datagen.model_quality import NOTES
from datagen.quality.judge import Judge, JudgeFit, calibrate
from datagen.quality.perceptual import FeatureFit, PerceptualDistance
from datagen.quality.training_index import TrainingIndex, index_of, save_index
from datagen.work.budget import (
    EPOCHS_OF,
    budget_notes,
    has_enough_steps,
    images_for_one_pass,
    measured_pace,
    pace_of_fewer,
    planned,
    seconds_after,
    seconds_an_epoch,
)
from datagen.work.evaluation import evaluate
from datagen.work.giving_way import GivingWay
from datagen.work.reconstructions import looked_at
from datagen.work.splits import Parts, split_up, stratified_sample

# In this order: what is learnt from, what decides, what measures.
SPLITS = ("train", "validation", "test")
STATE = "state.safetensors"
GENERATOR = "generator.safetensors"
JUDGE = "judge.safetensors"
EXAMPLES = "examples.safetensors"
INDEX = "index.safetensors"
OUTGROWN = (
    "The model that this training starts from has single-scale networks, and multi-scale ones "
    "learn images of this size better; train once without a model to start from."
)


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
        on_progress: told every few steps how far the training is, and before the first one what a
            user should know, as `notes`.
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
    deadline = time.monotonic() + slice_seconds
    parts = split_up(splits, options, device)
    images = splits["train"]
    given = options.model_fields_set
    counts = np.bincount(parts.train.all_labels.numpy(), minlength=len(images.class_names))
    is_outgrown = False
    if parent is not None:
        is_outgrown = options.outgrows(parent.model.config)
        options = options.starting_from(parent.model.config, images.image_shape)
    state = _state(folder / STATE, training_digest)
    if not state.options:
        options, state.pace = _sized_for_budget(
            options, images, counts.tolist(), parts, device, check
        )
        state.options = options.model_dump(mode="json")
    # Those that it began with, whatever another version of the recipe would choose.
    options = TrainingOptions.model_validate(state.options)
    parts = _sampled(parts, options)
    model, judge = _modules(images.image_shape, len(images.class_names), options, device)
    if parent is not None:
        start_from(model, parent.model, images.class_names, parent.class_names)
    # Kept: a training that goes on keeps to the plan of the stage that it is in.
    state.pace = state.pace or measured_pace(
        model,
        judge,
        parts.train,
        options,
        is_compared=parts.why_not_comparable is None,
        check=check,
    )
    usual, count = options, len(parts.train)
    options, parts = _within_budget(options, parts, state, given)

    def notes(*, has_ended: bool = False) -> list[str]:
        # The fit is planned again when it begins.
        current = options.model_copy(update=state.plan)
        return [OUTGROWN] * is_outgrown + budget_notes(
            state.pace, current, usual, count, has_ended=has_ended
        )

    def tell(progress: dict[str, Any]) -> None:
        found = notes()
        on_progress(progress | ({NOTES: found} if found else {}))

    if notes() and not state.stage:
        tell({})
    watch = Watch(tell, check, deadline)
    if giving_way is not None:
        giving_way.begin()
        watch = replace(watch, gives_way=giving_way.should_yield)
    if not _run_stages(model, judge, parts, options, state, watch, given):
        state.save(folder / STATE)
        return False
    options = options.model_copy(update=state.plan)
    metrics = _measure(model, judge, parts, options, state, folder, watch)
    metrics[NOTES] = notes(has_ended=True) + metrics[NOTES]
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


def _measure(
    model: Autoencoder,
    judge: Judge,
    parts: Parts,
    options: TrainingOptions,
    state: TrainingState,
    folder: Path,
    watch: Watch,
) -> dict[str, Any]:
    """How good a trained model is; writes what its samplers and its gate need into the folder."""
    watch.check()
    temperature = calibrate(judge, parts.validation)
    fitted, examples = _fit_samplers(model, parts, options, folder, watch.check)
    pairs = looked_at(model, parts.train, options.seed)
    grains = grains_to_try(*pairs)
    index = _training_index(parts.train, model.config.class_count, watch.check)
    save_index(folder / INDEX, index)

    def tell(progress: dict[str, Any]) -> None:
        watch.on_progress(progress | {"history": state.history[-MOST_TOLD:]})

    measured = evaluate(model, judge, parts, options, examples, index, watch.check, tell, grains)
    learnt = np.bincount(parts.train.all_labels.numpy(), minlength=model.config.class_count)
    return {
        **fitted,
        **measured,
        "judge_temperature": temperature,
        "history": state.history,
        TRAINING_COUNTS: learnt.tolist(),
    }


def _sized_for_budget(
    options: TrainingOptions,
    images: LabelledImages,
    counts: list[int],
    parts: Parts,
    device: torch.device,
    check: Callable[[], None],
) -> tuple[TrainingOptions, dict[str, float]]:
    """The options filled in, with the largest networks that the time budget has enough steps for.

    With them the pace of those networks, where it was measured for that.
    """
    tones = mid_tones(parts.train)
    for preset in options.presets_to_try(device.type, images.image_shape, tones):
        sized = options.model_copy(update={"preset": preset})
        filled = sized.for_images(counts, images.image_shape, tones)
        if options.time_budget is None or "epochs" in options.model_fields_set:
            return filled, {}
        own = _sampled(parts, filled)
        model, judge = _modules(images.image_shape, len(counts), filled, device)
        pace = measured_pace(
            model,
            judge,
            own.train,
            filled,
            is_compared=own.why_not_comparable is None,
            check=check,
        )
        if has_enough_steps(pace, filled, len(own.train)):
            break
    return filled, pace


def _within_budget(
    options: TrainingOptions, parts: Parts, state: TrainingState, given: AbstractSet[str]
) -> tuple[TrainingOptions, Parts]:
    """The options, and the images to learn from, that the time budget has room for.

    The plan stays in the state, and the pace there is that of the images that are learnt from.
    """
    budget, count = options.time_budget, len(parts.train)
    if budget is None:
        return options, parts
    if not state.plan:
        images = images_for_one_pass(budget, state.pace, given, count)
        if images is not None:
            state.plan["images"] = images
            state.pace = pace_of_fewer(state.pace, images / count)
        state.plan |= planned(budget, state.pace, given, options)
    options = options.model_copy(update=state.plan)
    return options, _sampled(parts, options) if "images" in state.plan else parts


def _sampled(parts: Parts, options: TrainingOptions) -> Parts:
    """The images that are learnt from, where the options say how many."""
    if options.images is None:
        return parts
    return replace(parts, train=stratified_sample(parts.train, options.images, options.seed))


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
    # A version that kept no options chose others: its weights are of no use to this one.
    return state if state.options else TrainingState(dataset=dataset)


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
        transform_condition=options.transform_condition and options.augment != "none",
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
    if reached in {JudgeFit.name, FeatureFit.name, Fit.name} and not _run_fit(
        model, judge.config, parts, options, state, given, run
    ):
        return False
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


def _run_fit(
    model: Autoencoder,
    judge: JudgeConfig,
    parts: Parts,
    options: TrainingOptions,
    state: TrainingState,
    given: AbstractSet[str],
    run: Callable[[Stage], bool],
) -> bool:
    """Run what is left of features and fit; False where the slice is over."""
    train, validation = parts.train, parts.validation
    perceptual, is_begun = None, state.stage == Fit.name
    if options.feature_weight:
        with torch.random.fork_rng(devices=[]):
            # Of the judge's kind, with none of its weights.
            torch.manual_seed(options.seed + 3)
            features = Judge(judge).to(train.device).to(memory_format=torch.channels_last)
        state.restore_module(FeatureFit.name, features)
        if not (is_begun or run(FeatureFit(features, train, validation, options))):
            return False
        perceptual = PerceptualDistance.of(features, train, options.seed)
    if not is_begun:
        nothing = train.subset(torch.arange(0))
        trial = Fit(copy.deepcopy(model), train, nothing, options, perceptual)
        options = _planned_again(trial, options, state, given)
    fit = Fit(model, train, validation, options, perceptual)
    if not run(fit):
        return False
    model.load_state_dict(fit.kept.state_dict())
    # The refinement draws from it.
    fit_prior(
        model,
        posteriors(model, train, options.seed),
        posteriors(model, validation, options.seed, are_held_out=True),
        options.prior,
    )
    return True


def _planned_again(
    trial: Stage, options: TrainingOptions, state: TrainingState, given: AbstractSet[str]
) -> TrainingOptions:
    """The options with as many epochs of a stage that begins as its time has room for now.

    At the start of a training others may have used the machine, or not yet.
    """
    if options.time_budget is None or EPOCHS_OF[trial.name] in given:
        return options
    state.pace[trial.name] = seconds_an_epoch(trial)
    name = EPOCHS_OF[trial.name]
    state.plan[name] = planned(options.time_budget, state.pace, given, options)[name]
    return options.model_copy(update=state.plan)


def _fit_samplers(
    model: Autoencoder,
    parts: Parts,
    options: TrainingOptions,
    folder: Path,
    check: Callable[[], None],
) -> tuple[dict[str, Any], Examples | None]:
    """Fit what the samplers draw from, and write the examples; what was found out about them."""
    found = posteriors(model, parts.train, options.seed, check)
    held_out = posteriors(model, parts.validation, options.seed, check, are_held_out=True)
    costs = fit_prior(model, found, held_out, options.prior)
    metrics: dict[str, Any] = {
        "prior": next(iter(costs)) if model.flow is None else "flow",
        "prior_nats": {name: round(cost, 3) for name, cost in costs.items()},
    }
    if options.density:
        tried = fit_density(model, found, held_out, options.seed, check)
        metrics["density_components"] = model.config.components
        metrics["density_nats"] = {str(number): round(cost, 3) for number, cost in tried.items()}
    examples = None
    if options.examples_per_class:
        examples = examples_of(found, options.examples_per_class)
        save_examples(folder / EXAMPLES, examples)
    return metrics, examples


def _training_index(
    data: TrainingData, class_count: int, check: Callable[[], None]
) -> TrainingIndex:
    def pixels(rows: np.ndarray) -> np.ndarray:
        check()
        return data.pixels(torch.from_numpy(rows))

    found = index_of(pixels, data.all_labels.numpy(), class_count)
    return replace(found, rows=data.numbers(torch.from_numpy(found.rows)).numpy())
