from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tiny import CPU, striped_images, tiny_judge

from datagen.model.grain import Grain
from datagen.model.header import read_header
from datagen.model.samplers import Sampling
from datagen.work import evaluation, recipe
from datagen.work.evaluation import (
    Accuracy,
    best_first,
    gate_for,
    hidden,
    pixel_variance,
)
from datagen.work.recipe import GENERATOR


def test_pixel_variance_is_the_mean_over_pixels_of_the_variance_over_images():
    images = np.zeros((2, 1, 1, 2), dtype=np.uint8)
    images[1, 0, 0, 0] = 10

    assert pixel_variance(images) == 12.5
    assert pixel_variance(images[:0]) == 0.0


@pytest.mark.parametrize(
    ("values", "held_out", "expected"),
    [
        # Within a standard error of the best, the order that they come in counts.
        ((0.80, 0.82, 0.40), 100, ["prior", "neighbour", "density"]),
        ((0.80, 0.82, 0.40), 9000, ["neighbour", "prior", "density"]),
        ((0.10, 0.20, 0.90), 100, ["density", "neighbour", "prior"]),
        # Nothing is held out.
        ((), 0, ["prior", "neighbour", "density"]),
    ],
)
def test_samplers_come_in_the_order_of_what_they_teach(values, held_out, expected):
    samplers = ["prior", "neighbour", "density"]
    found = {name: Accuracy(value, 0.0) for name, value in zip(samplers, values, strict=False)}
    assert best_first(samplers, found, held_out) == expected


@pytest.mark.parametrize(
    ("copied", "scores", "expected"),
    [
        (np.zeros(40), np.ones(40), True),
        # All of the second label are copies, and few of the first.
        (np.repeat([0, 1], 20), np.ones(40), False),
        (np.r_[np.zeros(20), np.ones(18), 0, 0], np.ones(40), True),
        (np.ones(40), np.ones(40), False),
        # The judge is sure of none of the second label: the gate asks for no score.
        (np.zeros(40), np.repeat([1.0, 0.2], 20), True),
    ],
)
def test_sampler_is_usable_where_enough_of_every_label_pass_its_gate(copied, scores, expected):
    measured = evaluation.Measured(
        sampling=Sampling("prior"),
        agreement=[1.0, 0.9],
        variance=[1.0, 1.0],
        copy_rate=float(copied.mean()),
        images=np.zeros((40, 1, 2, 2), dtype=np.uint8),
        labels=np.repeat([0, 1], 20),
        scores=scores,
        copied=copied.astype(bool),
    )
    assert measured.is_usable is expected
    assert (measured.gate.min_score == 0.5) == (scores.min() >= 0.5 or scores[-3] == 1.0)


def test_sampler_is_not_first_for_being_right_about_a_handful_of_images():
    found = {"prior": Accuracy(0.9, 0.0), "neighbour": Accuracy(1.0, 0.0)}
    assert best_first(["prior", "neighbour"], found, 4)[0] == "prior"
    assert best_first(["prior", "neighbour"], found, 400)[0] == "neighbour"


def test_gate_asks_for_a_score_where_every_label_passes_often_enough():
    assert gate_for([0.9, None, 0.25]).min_score == 0.5
    assert gate_for([0.9, None, 0.24]).min_score == 0.0
    assert gate_for([0.9, None, 0.24]).reject_copies


def test_features_do_not_depend_on_how_many_images_are_looked_at(monkeypatch):
    judge = tiny_judge()
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 9, 7), dtype=np.uint8)
    whole = hidden(judge, images, CPU)
    monkeypatch.setattr("datagen.work.evaluation.looked_at_once", lambda _: 6)

    assert whole.shape == (20, judge.config.feature_count)
    np.testing.assert_allclose(hidden(judge, images, CPU), whole, atol=1e-5)


@pytest.mark.parametrize(("near", "expected"), [(0.9, 0.4), (0.5, 0.8)])
def test_strength_at_which_neighbours_teach_most_is_recommended(train, monkeypatch, near, expected):
    accuracies = {}
    measure = evaluation._measured

    def measured(sampling, work):
        found = measure(sampling, work)
        value = near if sampling.strength == 0.4 else 0.5
        # With what was measured, so that no other gets its identity.
        accuracies[id(found)] = (found, Accuracy(value, 0.5))
        return found

    monkeypatch.setattr(evaluation, "_measured", measured)
    monkeypatch.setattr(
        evaluation._Classifiers, "learn_through", lambda _, _gate, found: accuracies[id(found)][1]
    )
    _, folder = train(levels=1, flow_epochs=1, flow_width=8)
    assert read_header(folder / GENERATOR).metrics["recommended"]["strength"] == expected


@pytest.mark.parametrize(("gain", "kept"), [(0.4, True), (0.0, True), (-0.4, False)])
def test_grain_is_dropped_where_a_classifier_learns_more_without_it(train, monkeypatch, gain, kept):
    measure = evaluation._measured
    accuracies = {}

    def measured(sampling, work):
        found = measure(sampling, work)
        value = 0.5 + gain * bool(work.model.config.grain)
        accuracies[id(found)] = (found, Accuracy(value, value))
        return found

    monkeypatch.setattr(recipe, "missing_grain", lambda *_: Grain((4.5,)))
    monkeypatch.setattr(evaluation, "_measured", measured)
    monkeypatch.setattr(
        evaluation._Classifiers, "learn_through", lambda _, _gate, found: accuracies[id(found)][1]
    )
    header = read_header(train()[1] / GENERATOR)
    grain = [4.5] if kept else []
    assert (list(header.config["grain"]), header.metrics["grain"]) == (grain, grain)


def test_strength_is_recommended_where_there_is_a_flow_alone(train):
    _, folder = train()
    assert read_header(folder / GENERATOR).metrics["recommended"]["strength"] is None


def test_samplers_are_recommended_but_for_those_that_make_copies(train, monkeypatch):
    metrics = read_header(train("free")[1] / GENERATOR).metrics
    known = ["neighbour", "interpolate", "density", "prior"]
    assert set(metrics["copy_rate_by_sampler"]) == set(known)
    assert set(metrics["judge_agreement_by_sampler"]) == set(known)
    rates = metrics["copy_rate_by_sampler"]
    recommended = set(metrics["recommended"]["samplers"])
    assert recommended <= {name for name in known if rates[name] <= evaluation.MOST_COPIES} | {
        "prior"
    }

    monkeypatch.setattr(evaluation, "MOST_COPIES", -1.0)
    strict = read_header(train("strict")[1] / GENERATOR).metrics
    assert strict["recommended"]["samplers"] == ["prior"]


@pytest.mark.parametrize(
    ("least", "gated", "open_", "expected"),
    [
        (0.0, 0.9, 0.9, 0.5),
        # The judge disagrees with most of a label.
        (1.1, 0.9, 0.9, 0.0),
        # What the judge is sure of teaches less.
        (0.0, 0.2, 0.9, 0.0),
    ],
)
def test_gate_is_recommended_by_agreement_and_by_what_its_images_teach(
    train, monkeypatch, least, gated, open_, expected
):
    def tstr(images, labels, tests, *_, **__):
        return [gated if len(images) < 36 else open_ for _ in tests]

    monkeypatch.setattr(evaluation, "LEAST_AGREEMENT", least)
    monkeypatch.setattr(evaluation, "LEAST_PASSED", 0.0)
    monkeypatch.setattr(
        evaluation.Measured,
        "passed",
        lambda own, gate: np.arange(len(own.labels)) % (2 if gate.min_score else 1) == 0,
    )
    monkeypatch.setattr(evaluation, "tstr", tstr)
    metrics = read_header(train()[1] / GENERATOR).metrics

    gate = metrics["recommended"]["gate"]
    assert (gate["min_score"], gate["on_shortfall"]) == (expected, "keep")
    assert metrics["tstr"] == (gated if expected else open_)


def test_class_without_training_images_is_left_out_of_what_is_measured(train):
    images, labels = striped_images(60)
    known = labels != 1
    others = {"train": (images[known], labels[known]), "test": (images, labels)}
    finished, folder = train(count=60, others=others)

    metrics = read_header(folder / GENERATOR).metrics
    assert finished
    assert metrics["training_images_per_class"][1] == 0
    assert metrics["training_images_per_class"][0] > 0
    # What the networks never saw says nothing of them.
    assert metrics["held_out_images"] == int(known.sum())
    assert metrics["judge_agreement_per_class"][1] is None
    assert metrics["variance_ratio_per_class"][1] is None


def test_measures_by_validation_where_the_test_split_has_none_of_the_learnt_classes(train):
    images, labels = striped_images(60)
    known = labels != 1
    others = {
        "train": (images[known], labels[known]),
        "test": (images[~known], labels[~known]),
    }
    _, folder = train(others=others)

    assert read_header(folder / GENERATOR).metrics["measured_on"] == "validation"


def test_figures_do_not_depend_on_how_many_labels_are_drawn_together(train, monkeypatch):
    _, together = train("together")
    monkeypatch.setattr(
        evaluation, "_groups", lambda work, _: [np.array([label]) for label in work.known]
    )
    _, apart = train("apart")

    assert (together / GENERATOR).read_bytes() == (apart / GENERATOR).read_bytes()


def test_few_images_of_many_labels_are_drawn_together(monkeypatch):
    monkeypatch.setattr(evaluation, "MEASURED_PER_CLASS", 100)
    train = SimpleNamespace(image_shape=(1, 8, 8))
    work = SimpleNamespace(train=train, known=list(range(10)))

    assert [len(group) for group in evaluation._groups(work, 100)] == [1] * 10
    assert [len(group) for group in evaluation._groups(work, 30)] == [3, 3, 3, 1]


@pytest.mark.parametrize(
    ("steps", "labels", "shape", "expected"),
    [
        (300, 10, (1, 8, 8), 480),
        (300, 2, (1, 8, 8), 1000),
        (300, 500, (1, 8, 8), 9),
        (300, 5000, (1, 8, 8), 4),
        (5, 10, (1, 8, 8), 8),
        (300, 2, (3, 1024, 1024), 21),
    ],
)
def test_images_that_are_measured_are_worth_the_steps_of_a_classifier(
    steps, labels, shape, expected
):
    work = SimpleNamespace(
        steps=steps, known=list(range(labels)), train=SimpleNamespace(image_shape=shape)
    )
    assert evaluation._measured_per_class(work) == expected


def test_evaluation_shows_how_far_it_is(train):
    told = []
    train(told=told)
    own = [progress for progress in told if progress["stage"] == "evaluation"]

    assert [progress["epoch"] for progress in own] == list(range(1, len(own) + 1))
    assert all(progress["epoch"] <= progress["epochs"] for progress in own)
    assert all(progress["step"] <= progress["steps"] for progress in own)
    # The curves stay on the page.
    assert own[-1]["history"]


def test_nothing_is_measured_twice(train, monkeypatch):
    drawn = []
    measure = evaluation._measured

    def measured(sampling, work):
        drawn.append((sampling, Grain.of(work.model.config)))
        return measure(sampling, work)

    monkeypatch.setattr(recipe, "missing_grain", lambda *_: Grain((4.5,)))
    monkeypatch.setattr(evaluation, "_measured", measured)
    train(levels=1, flow_epochs=1, flow_width=8)

    assert len(drawn) == len(set(drawn)) >= 4


@pytest.mark.parametrize("best", [0, 1, 2])
def test_model_gets_the_grain_with_which_its_images_teach_most(train, monkeypatch, best):
    grains = [
        Grain((4.5,)),
        Grain(),
        Grain((9.5,), 0.0, (0.0, 0.6, 0.0, 0.6, 0.0, 0.0, 0.0, 0.5, 0.2)),
    ]
    accuracies = {}
    measure = evaluation._measured

    def measured(sampling, work):
        found = measure(sampling, work)
        value = 0.9 if Grain.of(work.model.config) == grains[best] else 0.5
        accuracies[id(found)] = (found, Accuracy(value, value))
        return found

    monkeypatch.setattr(recipe, "missing_grain", lambda *_: grains[0])
    monkeypatch.setattr(recipe, "missing_texture", lambda *_: grains[2])
    monkeypatch.setattr(evaluation, "_measured", measured)
    monkeypatch.setattr(
        evaluation._Classifiers, "learn_through", lambda _, _gate, found: accuracies[id(found)][1]
    )
    config = read_header(train()[1] / GENERATOR).config

    assert tuple(config["grain"]) == grains[best].levels
    assert tuple(config["grain_kernel"]) == grains[best].kernel
