from __future__ import annotations

import numpy as np
import pytest
import torch
from recipe_runs import NAMES, OPTIONS
from safetensors.torch import load_file
from tiny import CPU, SHAPE, striped_images

from datagen.errors import Cancelled, InvalidFile, InvalidRequest
from datagen.model.checkpoint import load_generator
from datagen.model.examples import load_examples
from datagen.model.fitting import posteriors
from datagen.model.header import read_header
from datagen.model.state import TrainingState
from datagen.model.training_options import TrainingOptions
from datagen.quality.judge import load_judge
from datagen.work import recipe
from datagen.work.recipe import EXAMPLES, GENERATOR, JUDGE, STATE


def test_slices_give_the_same_files_as_one_go(train):
    finished, whole = train("whole")
    assert finished
    slices = 0
    done = False
    while not done:
        done, parts = train("parts", slice_seconds=0.0)
        slices += 1

    assert slices >= 8
    assert (whole / GENERATOR).read_bytes() == (parts / GENERATOR).read_bytes()
    assert (whole / JUDGE).read_bytes() == (parts / JUDGE).read_bytes()


def test_slices_of_multi_scale_networks_and_their_flow_give_the_same_files_as_one_go(train):
    changes = {"levels": 2, "augment": "affine", "flow_epochs": 1, "flow_width": 8, "stride": 2}
    changes |= {"feature_weight": 0.5, "feature_epochs": 2}
    _, whole = train("whole", **changes)
    done = False
    while not done:
        done, parts = train("parts", slice_seconds=0.0, **changes)

    for name in (GENERATOR, EXAMPLES):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    model, header = load_generator(whole / GENERATOR, CPU)
    assert model.flow is not None
    assert model.config.transform_condition
    assert header.metrics["prior"] == "flow"
    assert header.metrics["recommended"]["samplers"][0] == "prior"
    stages = [entry["stage"] for entry in header.metrics["history"]]
    assert sorted(set(stages), key=stages.index) == ["judge", "features", "fit", "flow", "refine"]


@pytest.mark.parametrize("family", ["autoencoder", "vae"])
def test_other_families_have_multi_scale_networks_too(train, family):
    _, folder = train(family=family, levels=1, flow_epochs=1, flow_width=8)

    model, header = load_generator(folder / GENERATOR, CPU)
    assert model.config.levels == 1
    assert (header.metrics["prior"] == "flow") == (family == "vae")


def test_flow_can_be_asked_for_and_refused(train):
    _, single = train("single", prior="flow", flow_epochs=1, flow_width=8)
    _, without = train("without", levels=1, prior="normal")

    assert load_generator(single / GENERATOR, CPU)[0].flow is not None
    assert load_generator(without / GENERATOR, CPU)[0].flow is None


def test_slice_that_is_over_leaves_a_state_and_no_result(train):
    finished, folder = train(slice_seconds=0.0)

    assert not finished
    assert [path.name for path in folder.iterdir()] == [STATE]


def test_same_seed_gives_the_same_files_and_another_seed_others(train):
    files = [
        (train(name, seed=seed)[1] / GENERATOR).read_bytes()
        for name, seed in (("one", 1), ("two", 1), ("three", 2))
    ]

    assert files[0] == files[1] != files[2]


def test_training_leaves_the_global_randomness_alone(train):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(refine_epochs=1)

    assert torch.equal(torch.get_rng_state(), before)


def test_held_out_images_decide_between_priors_by_noise_of_their_own(train, monkeypatch):
    seen = []

    def spied(model, data, *more, are_held_out=False):
        seen.append((len(data), are_held_out))
        return posteriors(model, data, *more, are_held_out=are_held_out)

    monkeypatch.setattr(recipe, "posteriors", spied)
    _, folder = train()

    counts = {part: count for count, part in seen}
    assert counts[False] == sum(
        read_header(folder / GENERATOR).metrics["training_images_per_class"]
    )
    assert 0 < counts[True] < counts[False]


def test_judge_takes_no_part_in_the_generator(train):
    _, one = train("one", judge_epochs=1)
    _, two = train("two", judge_epochs=2)

    first, second = load_file(one / GENERATOR), load_file(two / GENERATOR)
    assert all(torch.equal(first[name], second[name]) for name in first)
    judges = load_file(one / JUDGE), load_file(two / JUDGE)
    assert not all(torch.equal(judges[0][name], judges[1][name]) for name in judges[0])


def test_headers_say_what_was_made_of_what_and_how_good_it_is(train):
    _, folder = train()

    generator, judge = read_header(folder / GENERATOR), read_header(folder / JUDGE)
    assert (generator.kind, judge.kind) == ("cvae", "judge")
    for header in (generator, judge):
        assert header.class_names == NAMES
        assert header.image_shape == SHAPE
        assert header.training_digest == "d" * 64
        assert header.options["batch_size"] == 16
    metrics = generator.metrics
    assert metrics["held_out_images"] == 6
    assert metrics["negative_elbo"] == pytest.approx(
        metrics["reconstruction"] + metrics["kl"], abs=0.002
    )
    assert 0.0 < metrics["reconstruction_error"] < 1.0
    assert set(metrics["tstr_by_sampler"]) == set(metrics["judge_agreement_by_sampler"])
    first = metrics["recommended"]["samplers"][0]
    assert metrics["tstr"] == metrics["tstr_by_sampler"][first]
    assert 0.0 <= metrics["trtr"] <= 1.0
    # Six images are too few to say anything of it.
    assert (metrics["coverage"], metrics["coverage_of_real"]) == (None, None)
    assert len(metrics["judge_agreement_per_class"]) == len(NAMES)
    assert len(metrics["variance_ratio_per_class"]) == len(NAMES)
    stages = [(entry["stage"], entry["epoch"]) for entry in metrics["history"]]
    assert stages == [("judge", 1), ("fit", 1), ("fit", 2), ("refine", 1)]
    assert 0.0 <= judge.metrics["test_accuracy"] <= 1.0


def test_results_can_be_loaded(train):
    _, folder = train()

    assert load_generator(folder / GENERATOR, CPU)[0].config.latent_dim == 3
    assert load_judge(folder / JUDGE, CPU)[0].config.class_count == 3


def test_progress_tells_terms_pace_and_place(train):
    told = []
    train(told=told)

    fit = [progress for progress in told if progress["stage"] == "fit"]
    assert fit[-1]["epoch"] == fit[-1]["epochs"] == 2
    assert fit[-1]["step"] == fit[-1]["steps"]
    assert fit[-1]["images_per_second"] > 0
    # Its own last step is done: what is left is what the refinement will take.
    assert fit[-1]["seconds_left"] >= 0
    assert told[0]["seconds_left"] > 0
    for name in ("reconstruction", "kl", "total"):
        assert np.isfinite(fit[-1][name])
        assert np.isfinite(fit[-1][f"validation_{name}"])


@pytest.mark.parametrize("family", ["autoencoder", "vae", "cvae"])
def test_every_family_is_trained_measured_and_loaded(train, family):
    _, folder = train(family=family, likelihood="gaussian", average=0.9, patience=1)

    model, header = load_generator(folder / GENERATOR, CPU)
    assert (header.kind, model.config.family) == (family, family)
    assert header.metrics["prior"] in {"standard", "normal"}
    assert (header.metrics["kl"] == 0) == (family == "autoencoder")
    assert model.density.component_count == header.metrics["density_components"] > 0


def test_examples_are_posteriors_of_the_training_images(train):
    _, folder = train(examples_per_class=5)

    examples = load_examples(folder / EXAMPLES, latent_dim=3)
    assert np.bincount(examples.labels).tolist() == [5, 5, 5]


def test_prior_that_was_trained_along_is_kept_where_it_is_wanted(train):
    _, folder = train(prior="learnt")

    assert read_header(folder / GENERATOR).metrics["prior"] == "learnt"
    assert load_generator(folder / GENERATOR, CPU)[0].config.learnt_prior


def test_no_refinement_is_a_choice(train):
    _, folder = train(refine_epochs=0)

    history = read_header(folder / GENERATOR).metrics["history"]
    assert {entry["stage"] for entry in history} == {"judge", "fit"}


def test_test_images_measure_and_decide_nothing(train):
    test = striped_images(9, seed=1)
    weights = []
    for size in (9, 3):
        part = {"test": (test[0][:size], test[1][:size])}
        _, folder = train(f"test-{size}", others=part, patience=1, prior=None)
        metrics = read_header(folder / GENERATOR).metrics
        assert (metrics["measured_on"], metrics["held_out_images"]) == ("test", size)
        weights.append(load_file(folder / GENERATOR))

    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_validation_split_that_came_with_the_data_leaves_all_of_train_to_train_on(train):
    validation = striped_images(12, seed=1)
    _, given = train("given", others={"validation": validation})
    _, shared = train("shared")

    assert read_header(given / GENERATOR).metrics["held_out_images"] == 12
    rows = [load_examples(folder / EXAMPLES, latent_dim=3).rows for folder in (given, shared)]
    assert sorted(rows[0]) == list(range(60))
    assert len(rows[1]) == 54
    # Numbered as in the split, and not as among those that were left to train on.
    assert max(rows[1]) > 54


def test_small_classes_hold_nothing_out_unless_a_share_is_asked_for(train):
    free = {name: value for name, value in OPTIONS.items() if name != "validation_fraction"}
    held = [
        read_header(train(str(count), only=free, count=count)[1] / GENERATOR).metrics[
            "held_out_images"
        ]
        for count in (147, 150)
    ]

    # Of three classes, 49 images each and 50.
    assert held == [0, 15]


def test_every_class_keeps_images_to_train_on(train):
    told = []
    _, folder = train(count=4, batch_size=2, validation_fraction=0.9, told=told)

    # Two of one class, one of it held out; a class of one image stays in training.
    assert read_header(folder / GENERATOR).metrics["held_out_images"] == 1


def test_what_was_not_measured_is_not_said_to_be_zero(train):
    told = []
    _, folder = train(count=8, told=told)

    metrics = read_header(folder / GENERATOR).metrics
    assert metrics["held_out_images"] == 0
    names = ("reconstruction", "kl", "negative_elbo", "judge_test_accuracy")
    assert [metrics[name] for name in names] == [None] * 4
    assert not any(name.startswith("validation") for progress in told for name in progress)


def test_split_that_leaves_too_few_to_train_on_is_refused(train):
    with pytest.raises(InvalidRequest, match="1 of the images would be left"):
        train(count=2, one_class=True, validation_fraction=0.9)


def test_stop_is_heard_while_training(train):
    looks = iter(range(100))

    def check():
        if next(looks) == 3:
            raise Cancelled("told to stop")

    with pytest.raises(Cancelled):
        train(check=check)


def test_one_image_is_too_few(train):
    with pytest.raises(InvalidRequest, match="1 images are too few"):
        train(count=1)


def test_damaged_state_is_refused(train):
    _, folder = train(slice_seconds=0.0)
    path = folder / STATE
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(InvalidFile, match="damaged"):
        train()


def test_state_of_a_training_on_other_images_is_refused(train):
    train(slice_seconds=0.0)

    with pytest.raises(InvalidFile, match="its images were changed"):
        train(digest="e" * 64)


def test_state_of_another_architecture_is_refused(train):
    while not any(part.startswith("generator") for part in _parts(train)):
        pass

    state = TrainingState.load(folder_of(train) / STATE)
    state.options["width"] = 16
    state.save(folder_of(train) / STATE)
    with pytest.raises(InvalidFile, match="another generator"):
        train()


def test_training_goes_on_with_the_options_that_it_began_with(train, monkeypatch):
    _, whole = train("whole")
    train("parts", slice_seconds=0.0)
    # Another version of the recipe would choose other networks.
    monkeypatch.setattr(
        TrainingOptions, "for_images", lambda own, *_: own.model_copy(update={"width": 16})
    )
    done = False
    while not done:
        done, parts = train("parts", slice_seconds=0.0)

    assert (whole / GENERATOR).read_bytes() == (parts / GENERATOR).read_bytes()


def test_training_of_a_version_that_kept_no_options_begins_again(train):
    _, whole = train("whole")
    _, folder = train("parts", slice_seconds=0.0)
    state = TrainingState.load(folder / STATE)
    state.options, state.stage, state.step = {}, "fit", 3
    state.save(folder / STATE)
    _, parts = train("parts")

    assert (whole / GENERATOR).read_bytes() == (parts / GENERATOR).read_bytes()


def folder_of(train):
    """Where the slices of `train` leave what they have."""
    return train(slice_seconds=0.0)[1]


def _parts(train):
    _, folder = train(slice_seconds=0.0)
    return load_file(folder / STATE)


def test_class_of_one_training_image_is_learnt_and_drawn_by_every_sampler(train):
    images, labels = striped_images(60)
    kept = (labels != 1) | (np.arange(60) == 1)
    _, folder = train(others={"train": (images[kept], labels[kept])})

    metrics = read_header(folder / GENERATOR).metrics
    assert metrics["training_images_per_class"][1] == 1
    assert metrics["judge_agreement_per_class"][1] is not None
    assert set(metrics["judge_agreement_by_sampler"]) == {
        "neighbour", "interpolate", "density", "prior"
    }  # fmt: skip


def parent_in(folder):
    model, header = load_generator(folder / GENERATOR, CPU)
    return recipe.Parent(model, header.class_names, "e" * 64)


def first_total(folder):
    history = read_header(folder / GENERATOR).metrics["history"]
    return next(entry["total"] for entry in history if entry["stage"] == "fit")


@pytest.mark.parametrize(
    "changes", [{}, {"levels": 1, "stride": 2, "flow_epochs": 1, "flow_width": 8}]
)
def test_training_starts_from_another_model_with_other_labels(train, changes):
    _, parent = train("parent", count=200, epochs=15, **changes)
    found = parent_in(parent)
    common = {"count": 200, "epochs": 1, "kl_schedule": "constant", "flow_epochs": 1}
    _, nothing = train("nothing", **(common | changes))
    _, child = train("child", parent=found, names=("middle", "top", "more"), **common)

    header = read_header(child / GENERATOR)
    assert recipe.OUTGROWN not in header.metrics["notes"]
    assert (header.parent_digest, read_header(nothing / GENERATOR).parent_digest) == (
        "e" * 64,
        None,
    )
    assert header.class_names == ("middle", "top", "more")
    assert header.config["levels"] == changes.get("levels", 0)
    assert first_total(child) < first_total(nothing)


def test_training_from_another_model_gives_the_same_files_in_slices_as_in_one_go(train):
    _, parent = train("parent")
    found = parent_in(parent)
    _, whole = train("whole", parent=found)
    finished = False
    while not finished:
        finished, parts = train("parts", parent=found, slice_seconds=1e-6)

    for name in (GENERATOR, JUDGE):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()


def test_networks_that_are_outgrown_are_told(train, monkeypatch):
    _, parent = train("parent")
    monkeypatch.setattr(TrainingOptions, "outgrows", lambda *_: True)
    _, child = train("child", parent=parent_in(parent))

    assert read_header(child / GENERATOR).metrics["notes"][0] == recipe.OUTGROWN
