from __future__ import annotations

import json

import numpy as np
import pytest
from tiny import CLASS_NAMES, CLASSES, CPU, LITTLE_EFFORT, striped_images, striped_set

from datagen.images import LabelledImages
from datagen.quality import report as room
from datagen.quality.report import MEASURE, Effort, Subject, assembled, run_step, step_names
from datagen.quality.report_page import page


def subject(images=None, labels=None, *, train=None, held_out=None, gated=False):
    if images is None:
        images, labels = striped_images(90, seed=8)
    train, held_out = train or striped_set(240), held_out or striped_set(120, seed=1)
    return Subject(images, labels, train, held_out, gated)


def measured(of, effort=LITTLE_EFFORT):
    steps = {
        name: json.loads(json.dumps(run_step(name, of, effort, CPU, lambda: None)))
        for name in step_names(effort)
    }
    return assembled(steps, of, effort)


def missing(report):
    return {each["part"]: each["reason"] for each in report["not_computed"]}


def about():
    return {
        "model": "<b>m</b>@1", "model_digest": "d", "job": None, "sampler": "prior",
        "temperature": 1.0, "truncation": None, "gate": {"min_score": 0.5}, "seed": 0,
        "real": "r@1", "real_digest": "e", "images": 90, "training_images": 240,
        "held_out_images": 120, "device": "cpu",
    }  # fmt: skip


def test_report_has_every_part_and_is_plain_json():
    report = measured(subject())

    assert report["not_computed"] == []
    assert {"fidelity", "distance", "coverage", "copying", "usefulness"} <= set(report)
    assert report["verdict"]["outcome"] in {"helps", "no_measurable_difference", "hurts"}
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["usefulness"]["held_out"] == 120
    assert len(report["copying"]["pairs"]) == 10
    assert np.sum(report["fidelity"]["confusion"]) == 90
    assert set(report["fidelity"]["per_class"]) == set(CLASS_NAMES)


def test_right_labels_are_distinguished_from_wrong_ones():
    images, labels = striped_images(150, seed=8)
    effort = Effort(True, 150, 200, 80, 20, 2, 2, batch_size=32)

    right = run_step(MEASURE, subject(images, labels), effort, CPU, lambda: None)["parts"]
    wrong = run_step(MEASURE, subject(images, (labels + 1) % CLASSES), effort, CPU, lambda: None)

    assert right["fidelity"]["agreement"] > 0.9
    assert right["fidelity"]["low"] <= right["fidelity"]["agreement"] <= right["fidelity"]["high"]
    assert wrong["parts"]["fidelity"]["agreement"] < 0.1


def test_planted_copies_and_duplicates_are_counted_and_shown():
    train = striped_set(240)
    images, labels = striped_images(90, seed=8)
    own = np.flatnonzero(train.labels == labels[4])[:1]
    images[4] = train.images[own[0]]
    images[7] = images[10]

    report = measured(subject(images, labels, train=train))

    assert report["copying"]["copies"] >= 1
    assert report["copying"]["exact_duplicates"] == 1
    closest = report["copying"]["pairs"][0]
    assert (closest["image"], closest["training_row"]) == (4, int(own[0]))
    assert closest["generated_png"] == closest["real_png"]


def test_images_of_one_label_are_measured_but_not_alone():
    images, labels = striped_images(90, seed=8)
    one = labels == 1

    report = measured(subject(images[one], labels[one]))

    assert "usefulness.synthetic_alone" in missing(report)
    assert report["usefulness"]["synthetic_alone"] is None
    assert report["usefulness"]["gain"]["low"] is not None
    assert set(report["fidelity"]["per_class"]) == {"class 1"}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_with_so_few_images_notes_name_the_part_that_is_missing(count):
    images, labels = striped_images(90, seed=8)

    report = measured(subject(images[:count], labels[:count]))

    assert "too few" in missing(report)["coverage"]
    assert "too few" in missing(report)["distance"]
    assert "fidelity" in report
    assert page(report | {"subject": about()})


def test_real_images_of_one_class_leave_no_verdict():
    one = striped_set(60)
    train = LabelledImages(one.images, np.zeros_like(one.labels), CLASS_NAMES)
    report = measured(subject(train=train, held_out=train))

    assert report["verdict"]["outcome"] == "unknown"
    assert {"fidelity", "usefulness"} <= set(missing(report))


def test_features_that_are_no_numbers_never_reach_the_verdict(monkeypatch):
    class Spoilt:
        @classmethod
        def of(cls, *_):
            return lambda images: np.full((len(images), 8), np.nan, dtype=np.float32)

    monkeypatch.setattr(room, "Features", Spoilt)
    report = measured(subject())

    assert set(missing(report)) == {"distance", "coverage", "copying"}
    assert "not all numbers" in missing(report)["distance"]
    assert "nan" not in json.dumps(report, allow_nan=False).lower()


def test_page_shows_all_parts_and_needs_nothing_beside_it():
    report = measured(subject())
    html = page(report | {"subject": about()})

    assert report["verdict"]["sentence"] in html
    assert "<b>m</b>" not in html
    assert html.count("<section>") == 5
    assert html.count("data:image/svg+xml") == 5
    assert html.count("data:image/png") == 20
    assert "<script" not in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "https://" not in html
