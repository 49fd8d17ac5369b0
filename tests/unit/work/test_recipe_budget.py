"""The recipe within a time budget: epochs, images and networks that there is time for."""

from __future__ import annotations

import pytest
from recipe_runs import OPTIONS

from datagen.model.examples import load_examples
from datagen.model.header import read_header
from datagen.model.state import TrainingState
from datagen.model.training_options import TrainingOptions
from datagen.work import budget, recipe
from datagen.work.recipe import EXAMPLES, GENERATOR, STATE


def test_time_budget_is_planned_once_a_stage_and_kept_over_slices(train):
    free = {name: OPTIONS[name] for name in ("batch_size", "width", "latent_dim")}
    done, plans = False, []
    while not done:
        done, folder = train(only=free, time_budget=0.5, slice_seconds=0.05)
        if not done:
            state = TrainingState.load(folder / STATE)
            plans.append((state.stage, state.plan))

    assert len(plans) > 1
    for name in ("judge", "fit"):
        own = [plan for stage, plan in plans if stage == name]
        assert all(plan == own[0] for plan in own)
    last = plans[-1][1]
    # Classes so small are not refined.
    assert set(last) == {"epochs", "judge_epochs", "evaluation_steps"}
    header = read_header(folder / GENERATOR)
    assert {name: header.options[name] for name in last} == last


def test_epochs_follow_the_pace_at_which_their_stage_begins(train, monkeypatch):
    free = {name: OPTIONS[name] for name in ("batch_size", "width", "latent_dim")}
    # Somebody else uses the machine while the training begins, and has gone when it fits.
    monkeypatch.setattr(recipe, "measured_pace", lambda *_, **__: {"judge": 0.01, "fit": 100.0})
    _, folder = train(only=free, time_budget=0.5)

    assert read_header(folder / GENERATOR).options["epochs"] > 1


def test_longer_budget_plans_more_epochs_of_what_is_not_given(train):
    free = {name: OPTIONS[name] for name in ("batch_size", "width", "latent_dim", "judge_epochs")}
    plans = []
    for name, seconds in (("short", 1.0), ("long", 30.0)):
        _, folder = train(name, only=free, time_budget=seconds, slice_seconds=0.0)
        plans.append(TrainingState.load(folder / STATE).plan)

    assert set(plans[0]) == {"epochs", "evaluation_steps"}
    assert plans[1]["epochs"] > 4 * plans[0]["epochs"]


def test_budget_too_short_for_a_pass_learns_from_as_many_images_as_it_has_time_for(
    train, monkeypatch
):
    monkeypatch.setattr(budget, "FEWEST_IMAGES", 20)
    pace = {"judge": 1.0, "fit": 100.0, "evaluation": 0.001}
    monkeypatch.setattr(recipe, "measured_pace", lambda *_, **__: dict(pace))
    monkeypatch.setattr(recipe, "seconds_an_epoch", lambda _stage: 5.0)
    free = {name: OPTIONS[name] for name in ("batch_size", "width", "latent_dim", "judge_epochs")}
    done = False
    while not done:
        done, folder = train(only=free, count=300, time_budget=10.0, slice_seconds=0.0)

    header = read_header(folder / GENERATOR)
    # Of 270 images: 10 s * 0.9 * 5 / 7 of 100 s a pass.
    assert header.options["images"] == 20
    # As many of each of the three classes.
    assert header.metrics["training_images_per_class"] == [6, 6, 6]
    rows = load_examples(folder / EXAMPLES, latent_dim=3).rows
    assert len(set(rows)) == 18


def test_budget_with_little_room_is_told_before_the_first_step_and_kept(train, monkeypatch):
    pace = {"judge": 0.1, "fit": 1.0, "evaluation": 0.01}
    monkeypatch.setattr(recipe, "measured_pace", lambda *_, **__: dict(pace))
    monkeypatch.setattr(recipe, "seconds_an_epoch", lambda _stage: 1.0)
    free = {name: OPTIONS[name] for name in ("batch_size", "width", "latent_dim", "judge_epochs")}
    told = []
    _, folder = train(only=free, time_budget=5.0, told=told)

    assert list(told[0]) == ["notes"]
    (note,) = told[0]["notes"]
    # Four epochs of three steps.
    assert "budget of 5s has room for 12 of about 4,002 steps" in note
    assert all(one["notes"] == [note] for one in told)
    assert read_header(folder / GENERATOR).metrics["notes"][0] == note


@pytest.mark.parametrize(("seconds", "preset"), [(20_000.0, "base"), (1_000.0, "small")])
def test_networks_for_pictures_are_small_where_there_is_time_for_few_steps(
    train, monkeypatch, seconds, preset
):
    pace = {"judge": 0.1, "fit": 1.0, "flow": 0.1, "evaluation": 0.001}
    monkeypatch.setattr(recipe, "measured_pace", lambda *_, **__: dict(pace))
    monkeypatch.setattr(TrainingOptions, "_wants_levels", lambda *_: True)
    given = {"judge_epochs": 1, "flow_epochs": 1, "evaluation_steps": 0}
    finished, folder = train(only=given, time_budget=seconds, slice_seconds=0.0)

    assert not finished
    options = TrainingState.load(folder / STATE).options
    assert (options["preset"], options["width"]) == (preset, {"base": 64, "small": 32}[preset])
