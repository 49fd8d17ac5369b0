from __future__ import annotations

import numpy as np
import pytest
from tiny import striped_images

from datagen.model.header import read_header
from datagen.quality.judge import Scorer
from datagen.quality.training_index import TrainingIndex
from datagen.work import sampler_measures
from datagen.work.recipe import GENERATOR


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
