from __future__ import annotations

from types import SimpleNamespace

import pytest

from datagen.errors import Cancelled
from datagen.model.training_options import TrainingOptions
from datagen.work import budget
from datagen.work.budget import (
    budget_notes,
    has_enough_steps,
    images_for_one_pass,
    pace_of_fewer,
    planned,
    seconds_after,
    seconds_an_epoch,
)

OPTIONS = TrainingOptions(judge_epochs=8, evaluation_steps=300)
PACE = {"judge": 1.0, "fit": 2.0, "evaluation": 0.01}


def test_plan_leaves_time_for_the_evaluation():
    plan = planned(1000.0, PACE, set(), OPTIONS)
    seconds = sum(
        (plan["judge_epochs"] * 1.0, plan["epochs"] * 2.0, plan["evaluation_steps"] * 0.01)
    )

    assert plan["evaluation_steps"] == 300
    assert 880.0 < seconds <= 900.0


@pytest.mark.parametrize(("budget", "steps"), [(1000.0, 300), (10.0, 150), (1.0, 20), (0.1, 0)])
def test_evaluation_has_a_share_of_the_budget_at_most_but_enough_steps_to_tell(budget, steps):
    assert planned(budget, PACE, set(), OPTIONS)["evaluation_steps"] == steps


def test_what_is_given_is_not_planned():
    given = {"evaluation_steps", "judge_epochs"}
    assert set(planned(100.0, PACE, given, OPTIONS)) == {"epochs"}


def test_judge_gets_no_more_epochs_than_it_takes_to_be_good():
    assert planned(10_000.0, PACE, set(), OPTIONS)["judge_epochs"] == 8


def test_each_stage_has_an_epoch_however_short_the_budget():
    plan = planned(0.001, PACE, set(), OPTIONS)
    assert (plan["judge_epochs"], plan["epochs"]) == (1, 1)


def test_pace_of_before_that_says_nothing_of_the_evaluation_still_plans():
    assert planned(100.0, {"judge": 1.0, "fit": 2.0}, set(), OPTIONS)["evaluation_steps"] == 300


def test_time_that_is_left_counts_the_stages_after_and_the_evaluation():
    options = TrainingOptions(judge_epochs=2, epochs=5, evaluation_steps=100)
    assert seconds_after("judge", PACE, options) == pytest.approx(5 * 2.0 + 100 * 0.01)
    assert seconds_after("fit", PACE, options) == pytest.approx(1.0)


def test_features_get_a_small_share_and_no_more_than_they_need():
    pace = PACE | {"features": 1.0}
    options = OPTIONS.model_copy(update={"feature_epochs": 3})

    assert planned(1000.0, pace, set(), options)["feature_epochs"] == 3
    short = planned(20.0, pace, set(), options)
    assert (short["feature_epochs"], short["epochs"]) == (1, 5)


@pytest.mark.parametrize(
    ("budget", "given", "expected"),
    [
        # A pass over all takes 2 s, and the fit gets 0.9 * 5 / 7 of the budget.
        (10.0, set(), None),
        (0.31, set(), 9964),
        (0.31, {"epochs"}, None),
        (0.001, set(), 1000),
    ],
)
def test_no_more_images_than_one_pass_has_time_for(budget, given, expected):
    assert images_for_one_pass(budget, PACE, given, 100_000) == expected


def test_few_images_are_all_learnt_from():
    assert images_for_one_pass(0.001, PACE, set(), 900) is None


def test_pace_of_fewer_images_is_that_of_shorter_passes():
    pace = pace_of_fewer(PACE | {"flow": 0.5}, 0.25)
    assert pace == {"judge": 0.25, "fit": 0.5, "flow": 0.5, "evaluation": 0.01}


# 4,000 steps of 50 of 1,000 images take 400 s, with judge, evaluation and held-out images 456 s.
USUAL = OPTIONS.model_copy(update={"epochs": 200, "batch_size": 50, "judge_epochs": 8})


def noted(budget, **changes):
    plan = {"time_budget": budget, "judge_epochs": 1, "evaluation_steps": 0} | changes
    pace = pace_of_fewer(PACE, changes["images"] / 1000) if "images" in changes else PACE
    return budget_notes(pace, USUAL.model_copy(update=plan), USUAL, 1000)


def test_budget_with_room_for_few_steps_says_how_many_and_what_would_be_enough():
    (note,) = noted(10.0, epochs=4)
    assert note == (
        "The time budget of 10s has room for 80 of about 4,000 steps of the generator on this "
        "machine, so expect soft images; 8m would be enough."
    )
    # However few images it learns from.
    (note,) = noted(10.0, epochs=4, images=100)
    assert "room for 8 of about 4,000 steps" in note
    assert "8m would be enough" in note


def test_budget_that_is_enough_or_absent_says_nothing():
    assert noted(120.0, epochs=50) == []
    assert noted(None, epochs=1) == []


def test_training_that_takes_longer_than_its_budget_says_so():
    notes = noted(1.0, epochs=1)
    assert notes[1] == (
        "The training takes about 10s on this machine, longer than its time budget of 1s: each "
        "stage learns for one epoch at least."
    )
    assert len(noted(3.0, epochs=1)) == 1


def test_estimate_of_how_long_it_takes_is_left_out_when_it_is_over():
    plan = USUAL.model_copy(update={"time_budget": 1.0, "judge_epochs": 1, "epochs": 1})
    before, after = (
        budget_notes(PACE, plan, USUAL, 1000, has_ended=ended) for ended in (False, True)
    )

    assert len(before) == 2
    assert after == before[:1]


def test_need_beyond_the_longest_budget_is_said_to_be_that():
    slow = {name: 100_000 * seconds for name, seconds in PACE.items()}
    plan = USUAL.model_copy(update={"time_budget": 60.0, "epochs": 1})

    assert (
        "even the longest budget, 30d, would not be enough"
        in budget_notes(slow, plan, USUAL, 1000)[0]
    )


def test_step_that_takes_long_is_timed_once(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(budget.time, "perf_counter", lambda: float(next(clock)))
    taken = []
    stage = SimpleNamespace(prepare=lambda: None, step=taken.append, steps_per_epoch=7)

    assert seconds_an_epoch(stage) == 7.0
    assert taken == [0, 3]


@pytest.mark.parametrize(("budget", "enough"), [(100.0, False), (10_000.0, True), (None, True)])
def test_smaller_networks_are_worth_it_where_there_are_few_steps(budget, enough):
    options = USUAL.model_copy(update={"time_budget": budget})
    assert has_enough_steps(PACE, options, 1000) is enough


def test_pace_is_no_longer_measured_where_the_training_is_cancelled():
    taken = []
    stage = SimpleNamespace(prepare=lambda: None, step=taken.append, steps_per_epoch=7)

    def check():
        if len(taken) == 2:
            raise Cancelled("Told to stop.")

    with pytest.raises(Cancelled):
        seconds_an_epoch(stage, check)
    assert taken == [0, 1]
