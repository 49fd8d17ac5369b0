from __future__ import annotations

import pytest

from datagen.model_quality import overrun, quality_rows, training_notes


def test_figures_of_generated_images_stand_beside_those_of_real_ones():
    metrics = {
        "judge_agreement": 0.847,
        "judge_test_accuracy": 0.98,
        "tstr": 0.7771,
        "trtr": 1.0,
        "coverage": 0.5,
        "coverage_of_real": 0.9,
        "reconstruction_error": 0.0213,
        "parameters": 12,
    }
    assert [row[:3] for row in quality_rows(metrics)] == [
        ("label agreement", "84.7%", "98.0%"),
        ("TSTR", "77.7%", "100.0%"),
        ("coverage", "50.0%", "90.0%"),
        ("reconstruction error", "2.1%", ""),
    ]


def test_what_guessing_reaches_stands_beside_what_it_would_reach_something_in():
    metrics = {"judge_agreement": 0.9, "tstr": 0.8, "coverage": 0.5, "chance": 0.25}
    assert [(row.name, row.chance) for row in quality_rows(metrics)] == [
        ("label agreement", "25.0%"),
        ("TSTR", "25.0%"),
        ("coverage", ""),
    ]


@pytest.mark.parametrize(
    ("seconds", "options", "sentences"),
    [
        (
            702.0,
            {"time_budget": 600.0},
            ["The training took 702 seconds, 17% more than its time budget of 10m."],
        ),
        (650.0, {"time_budget": 600.0}, []),
        (650.0, {}, []),
        (650.0, {"time_budget": None}, []),
        # Of a file that somebody else wrote.
        (650.0, {"time_budget": "10m"}, []),
        (650.0, {"time_budget": True}, []),
    ],
)
def test_training_that_took_longer_than_its_budget_says_so(seconds, options, sentences):
    assert overrun(seconds, options) == sentences


def test_what_was_not_measured_is_left_out():
    assert quality_rows({}) == []
    rows = quality_rows({"judge_agreement": 0.5, "tstr": None, "judge_test_accuracy": None})
    assert [row[:3] for row in rows] == [("label agreement", "50.0%", "")]


@pytest.mark.parametrize("value", [True, "0.5", 10**400, float("nan"), -1, [0.5], {"a": 1}])
def test_what_is_no_share_is_left_out(value):
    assert quality_rows({"tstr": value}) == []
    rows = quality_rows({"tstr": 0.5, "trtr": value, "chance": value})
    assert [row[:4] for row in rows] == [("TSTR", "50.0%", "", "")]


@pytest.mark.parametrize(
    ("metrics", "notes"),
    [
        ({}, []),
        ({"notes": ["one", "two"]}, ["one", "two"]),
        # Of a file that somebody else wrote.
        ({"notes": "one"}, []),
        ({"notes": ["one", 2, None, {"three": 3}]}, ["one"]),
    ],
)
def test_notes_of_a_training_are_sentences_and_nothing_else(metrics, notes):
    assert training_notes(metrics) == notes
