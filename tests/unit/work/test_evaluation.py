from __future__ import annotations

import numpy as np
import pytest
from tiny import striped_images

from datagen.model.header import read_header
from datagen.model.samplers import Sampling
from datagen.quality.judge import Scorer
from datagen.quality.training_index import TrainingIndex
from datagen.schemas import Gate
from datagen.work import sampler_measures
from datagen.work.evaluation import _seldom_passing
from datagen.work.recipe import GENERATOR
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
    assert metrics["chance"] is None
    assert metrics["notes"][0] == (
        "Samplers were not compared, because the time budget had no room for it; the one that is "
        "recommended usually teaches best."
    )


def test_says_that_nothing_is_compared_where_no_image_is_held_out(train):
    metrics = read_header(train(validation_fraction=0.001)[1] / GENERATOR).metrics

    assert metrics["tstr"] is None
    assert metrics["notes"][0] == (
        "Samplers were not compared, because no image is held out (of classes of 50 or more a "
        "share is); the one that is recommended usually teaches best."
    )


def test_guessing_is_right_for_one_label_in_so_many(train):
    metrics = read_header(train()[1] / GENERATOR).metrics

    assert metrics["tstr"] is not None
    assert metrics["chance"] == pytest.approx(1 / 3, abs=1e-5)


def measured_of(labels, copied=(), scores=()):
    labels = np.array(labels)
    return Measured(
        Sampling(),
        [1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0],
        0.0,
        np.zeros((len(labels), 1, 2, 2), dtype=np.uint8),
        labels,
        np.array(scores or np.ones(len(labels)), dtype=np.float32),
        np.array(copied or np.zeros(len(labels)), dtype=bool),
    )


def test_label_of_which_hardly_any_image_passes_is_named():
    labels = [0] * 20 + [1] * 20 + [2] * 20
    copied = [False] * 20 + [True] * 20 + [False] * 20
    scores = [0.9] * 40 + [0.9] + [0.1] * 19
    found = _seldom_passing(measured_of(labels, copied, scores), Gate(), ("a", "b", "c"))

    passed = "passed the recommended gate"
    short = "so jobs will be short of that label."
    assert found == [
        f"0 of 20 images of 'b' {passed} (20 were copies of training images), {short}",
        f"1 of 20 images of 'c' {passed} (0 were copies of training images), {short}",
    ]
    # Where the gate takes copies and any score.
    lenient = Gate(min_score=0.0, reject_copies=False)
    assert _seldom_passing(measured_of(labels, copied, scores), lenient, ("a", "b", "c")) == []


def test_of_many_labels_that_hardly_pass_a_few_are_named():
    labels = list(range(9))
    names = tuple(f"label {number}" for number in labels)
    found = _seldom_passing(measured_of(labels, [True] * 9), Gate(), names)

    assert len(found) == 6
    assert found[-1] == "So they will be of 4 more labels."
