from __future__ import annotations

import numpy as np
import pytest

from datagen.model.grain import Grain
from datagen.model.header import read_header
from datagen.work import recipe, sampler_choice, sampler_measures
from datagen.work.recipe import GENERATOR
from datagen.work.sampler_choice import Accuracy, Classifiers, best_first
from datagen.work.sampler_measures import Measured


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


def test_sampler_is_not_first_for_being_right_about_a_handful_of_images():
    found = {"prior": Accuracy(0.9, 0.0), "neighbour": Accuracy(1.0, 0.0)}
    assert best_first(["prior", "neighbour"], found, 4)[0] == "prior"
    assert best_first(["prior", "neighbour"], found, 400)[0] == "neighbour"


@pytest.mark.parametrize(("near", "expected"), [(0.9, 0.4), (0.5, 0.8)])
def test_strength_at_which_neighbours_teach_most_is_recommended(train, monkeypatch, near, expected):
    accuracies = {}
    measure = sampler_choice.measured

    def measured(sampling, context):
        found = measure(sampling, context)
        value = near if sampling.strength == 0.4 else 0.5
        # With what was measured, so that no other gets its identity.
        accuracies[id(found)] = (found, Accuracy(value, 0.5))
        return found

    monkeypatch.setattr(sampler_choice, "measured", measured)
    monkeypatch.setattr(
        Classifiers, "learn_through", lambda _, _gate, found: accuracies[id(found)][1]
    )
    _, folder = train(levels=1, flow_epochs=1, flow_width=8)
    assert read_header(folder / GENERATOR).metrics["recommended"]["strength"] == expected


@pytest.mark.parametrize(("gain", "kept"), [(0.4, True), (0.0, True), (-0.4, False)])
def test_grain_is_dropped_where_a_classifier_learns_more_without_it(train, monkeypatch, gain, kept):
    measure = sampler_choice.measured
    accuracies = {}

    def measured(sampling, context):
        found = measure(sampling, context)
        value = 0.5 + gain * bool(context.model.config.grain)
        accuracies[id(found)] = (found, Accuracy(value, value))
        return found

    monkeypatch.setattr(recipe, "grains_to_try", lambda *_: [Grain((4.5,)), Grain()])
    monkeypatch.setattr(sampler_choice, "measured", measured)
    monkeypatch.setattr(
        Classifiers, "learn_through", lambda _, _gate, found: accuracies[id(found)][1]
    )
    header = read_header(train()[1] / GENERATOR)
    grain = [4.5] if kept else []
    assert (list(header.config["grain"]), header.metrics["grain"]) == (grain, grain)


def test_samplers_are_recommended_but_for_those_that_make_copies(train, monkeypatch):
    metrics = read_header(train("free")[1] / GENERATOR).metrics
    known = ["neighbour", "interpolate", "density", "prior"]
    assert set(metrics["copy_rate_by_sampler"]) == set(known)
    assert set(metrics["judge_agreement_by_sampler"]) == set(known)
    rates = metrics["copy_rate_by_sampler"]
    recommended = set(metrics["recommended"]["samplers"])
    assert recommended <= {
        name for name in known if rates[name] <= sampler_measures.MOST_COPIES
    } | {"prior"}

    monkeypatch.setattr(sampler_measures, "MOST_COPIES", -1.0)
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

    monkeypatch.setattr(sampler_measures, "LEAST_AGREEMENT", least)
    monkeypatch.setattr(sampler_measures, "LEAST_PASSED", 0.0)
    monkeypatch.setattr(
        Measured,
        "passed",
        lambda own, gate: np.arange(len(own.labels)) % (2 if gate.min_score else 1) == 0,
    )
    monkeypatch.setattr(sampler_choice, "tstr", tstr)
    metrics = read_header(train()[1] / GENERATOR).metrics

    gate = metrics["recommended"]["gate"]
    assert (gate["min_score"], gate["on_shortfall"]) == (expected, "keep")
    assert metrics["tstr"] == (gated if expected else open_)


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
    measure = sampler_choice.measured

    def measured(sampling, context):
        drawn.append((sampling, Grain.of(context.model.config)))
        return measure(sampling, context)

    monkeypatch.setattr(recipe, "grains_to_try", lambda *_: [Grain((4.5,)), Grain()])
    monkeypatch.setattr(sampler_choice, "measured", measured)
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
    measure = sampler_choice.measured

    def measured(sampling, context):
        found = measure(sampling, context)
        value = 0.9 if Grain.of(context.model.config) == grains[best] else 0.5
        accuracies[id(found)] = (found, Accuracy(value, value))
        return found

    monkeypatch.setattr(recipe, "grains_to_try", lambda *_: grains)
    monkeypatch.setattr(sampler_choice, "measured", measured)
    monkeypatch.setattr(
        Classifiers, "learn_through", lambda _, _gate, found: accuracies[id(found)][1]
    )
    config = read_header(train()[1] / GENERATOR).config

    assert tuple(config["grain"]) == grains[best].levels
    assert tuple(config["grain_kernel"]) == grains[best].kernel


def test_classes_count_alike_however_many_images_they_have():
    def held_out(counts):
        labels = np.repeat(np.arange(len(counts)), counts)
        return Classifiers(None, [(np.zeros((len(labels), 1)), labels)], 0).held_out

    assert held_out([50, 50]) == pytest.approx(100)
    # The accuracy of the second class is that of eight images, and weighs half.
    assert held_out([114, 8]) == pytest.approx(4 / (1 / 114 + 1 / 8))
