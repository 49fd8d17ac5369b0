from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from recipe_runs import OPTIONS
from tiny import striped_images

from datagen.model.header import read_header
from datagen.model.samplers import Sampling
from datagen.quality.judge import Scorer
from datagen.quality.training_index import TrainingIndex
from datagen.schemas import Gate
from datagen.work import evaluation, sampler_measures
from datagen.work.evaluation import _near_guessing, _seldom_passing
from datagen.work.recipe import GENERATOR
from datagen.work.sampler_choice import Classifiers
from datagen.work.sampler_measures import Measured


def test_strength_is_recommended_where_there_is_a_flow_alone(train):
    _, folder = train()
    assert read_header(folder / GENERATOR).metrics["recommended"]["strength"] is None


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
        sampler_measures,
        "groups",
        lambda context, _: [np.array([label]) for label in context.known],
    )
    _, apart = train("apart")

    assert (together / GENERATOR).read_bytes() == (apart / GENERATOR).read_bytes()


@pytest.mark.parametrize("sampler", ["prior", "neighbour"])
def test_agreement_of_images_whose_label_the_judge_gives_is_not_measured(train, sampler):
    metrics = read_header(train(family="vae")[1] / GENERATOR).metrics
    agreement = metrics["judge_agreement_by_sampler"][sampler]

    # A real image that one starts from has a label of its own.
    assert (agreement is None) == (sampler == "prior")


def test_copies_are_sought_under_the_label_that_the_judge_gives(train, monkeypatch):
    sought = []
    copies = TrainingIndex.copies

    def seek(index, images, labels):
        sought.append(set(labels.tolist()))
        return copies(index, images, labels)

    monkeypatch.setattr(TrainingIndex, "copies", seek)
    monkeypatch.setattr(Scorer, "score", lambda _, images: np.eye(3)[np.full(len(images), 2)])
    train(family="vae")

    # Those that start from real images have a label of their own; of all others the judge says 2.
    assert sought.count({2}) > sought.count({0}) > 0


def test_nothing_is_compared_where_there_is_no_time_for_it(train):
    metrics = read_header(train(evaluation_steps=0)[1] / GENERATOR).metrics

    assert (metrics["tstr"], metrics["trtr"], metrics["tstr_by_sampler"]) == (None, None, {})
    assert metrics["recommended"]["samplers"][0] == "neighbour"
    # Of the label agreement, which is measured all the same.
    assert metrics["chance"] == pytest.approx(1 / 3, abs=1e-5)
    assert (
        "Samplers were not compared, because the time budget had no room for it; the one that is "
        "recommended usually teaches best."
    ) in metrics["notes"]


def test_says_that_nothing_is_compared_where_no_image_is_for_validation(train):
    only = {name: value for name, value in OPTIONS.items() if name != "validation_fraction"}
    metrics = read_header(train(only=only)[1] / GENERATOR).metrics

    assert metrics["tstr"] is None
    assert (
        "Samplers were not compared, because there are no images for validation (where a dataset "
        "has no such split, some of each class of 50 or more images are held out); the one that "
        "is recommended usually teaches best."
    ) in metrics["notes"]


def test_one_label_leaves_nothing_to_compare_samplers_by(train):
    metrics = read_header(train(one_class=True)[1] / GENERATOR).metrics

    assert (metrics["tstr"], metrics["chance"]) == (None, 1.0)
    (note,) = metrics["notes"]
    assert note == (
        "Samplers were not compared, because of one label there is nothing that a classifier could "
        "tell apart; the one that is recommended usually teaches best."
    )


@pytest.mark.parametrize(
    ("agreement", "judge_accuracy", "said"),
    [
        (0.26, 0.9, "The judge sees the requested label in 26.0% of generated images"),
        (0.9, 0.26, "The judge is right for 26.0% of real images"),
        (0.26, 0.26, "The judge is right for 26.0% of real images"),
        (0.33, 0.33, None),
        (None, 0.9, None),
        (0.9, None, None),
    ],
)
def test_training_that_comes_to_no_more_than_guessing_says_so(agreement, judge_accuracy, said):
    note = _near_guessing(agreement, judge_accuracy, 0.25)

    assert note is None if said is None else note.startswith(said)
    assert said is None or "guessing would be" in note
    # Of one label there is nothing to guess.
    assert _near_guessing(1.0, 1.0, 1.0) is None


def test_coverage_is_measured_where_there_are_images_enough(train):
    metrics = read_header(train(count=240)[1] / GENERATOR).metrics

    assert metrics["held_out_images"] == 24
    assert 0.0 <= metrics["coverage"] <= 1.0
    assert 0.0 <= metrics["coverage_of_real"] <= 1.0


def test_guessing_is_right_for_one_in_so_many_of_the_learnt_labels(train):
    images, labels = striped_images(60)
    known = labels != 1
    # A label that was learnt, of which no image is for validation.
    others = {"validation": (images[known], labels[known])}
    metrics = read_header(train("all", others=others)[1] / GENERATOR).metrics
    assert metrics["tstr"] is not None
    assert metrics["chance"] == pytest.approx(1 / 3, abs=1e-5)
    # And one that was not.
    fewer = {"train": (images[known], labels[known])}
    metrics = read_header(train("fewer", others=fewer)[1] / GENERATOR).metrics
    assert metrics["chance"] == 0.5


def test_samplers_have_the_gates_that_their_figures_were_measured_with(train, monkeypatch):
    gates = {}
    compare = Classifiers.compare

    def compared(classifiers, sampling):
        own, accuracy = compare(classifiers, sampling)
        # As if the judge knew nothing of what `prior` makes.
        least = 0.0 if sampling.sampler == "prior" else 1.0
        own = replace(own, agreement=[least] * 3, scores=np.ones_like(own.scores))
        gates[sampling.sampler] = own.gate
        return own, accuracy

    monkeypatch.setattr(Classifiers, "compare", compared)
    recommended = read_header(train()[1] / GENERATOR).metrics["recommended"]
    best = recommended["samplers"][0]

    assert best != "prior"
    others = {name: gate.model_dump(mode="json") for name, gate in gates.items() if name != best}
    assert {name: recommended["gates"].get(name, recommended["gate"]) for name in others} == others
    assert recommended["gates"]["prior"]["min_score"] == 0.0


def measured_of(labels, copied, scores=(), sampler="prior"):
    return Measured(
        Sampling(sampler),
        [1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0],
        0.0,
        np.zeros((len(labels), 1, 2, 2), dtype=np.uint8),
        np.array(labels),
        np.array(scores or [1.0] * len(labels), dtype=np.float32),
        np.array(copied),
    )


def test_labels_of_which_hardly_any_image_passes_are_named():
    labels = [0] * 20 + [1] * 20 + [2] * 20
    copied = [False] * 20 + [True] * 20 + [False] * 20
    scores = [0.9] * 40 + [0.9] + [0.1] * 19
    (found,) = _seldom_passing(measured_of(labels, copied, scores), Gate(), ("a", "b", "c"))

    assert found == (
        "Less than 10% of the images of 'b' and 'c' from the sampler 'prior' passed its gate (20 "
        "of 40 were copies of real ones); jobs may be short of such labels."
    )
    # Where the gate takes copies and any score.
    lenient = Gate(min_score=0.0, reject_copies=False)
    assert _seldom_passing(measured_of(labels, copied, scores), lenient, ("a", "b", "c")) == []
    # Where it takes copies, they are no reason.
    strict = Gate(reject_copies=False)
    (note,) = _seldom_passing(measured_of(labels, copied, scores), strict, ("a", "b", "c"))
    assert "of 'c' from" in note
    assert "copies" not in note


def test_jobs_that_ask_for_no_label_are_short_of_none(train, monkeypatch):
    monkeypatch.setattr(evaluation, "_seldom_passing", lambda *_: ["Short."])
    # Of a family that knows no labels, images from `prior` have those that the judge gives.
    vae = read_header(train("vae", family="vae", examples_per_class=0)[1] / GENERATOR).metrics
    cvae = read_header(train("cvae")[1] / GENERATOR).metrics

    assert "Short." not in vae["notes"]
    assert "Short." in cvae["notes"]
