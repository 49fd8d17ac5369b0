from __future__ import annotations

import math
import time

import pytest
import torch
from fits import IMAGES, OPTIONS, assert_same_weights, new_fit, weights
from tiny import striped_data

from datagen.errors import Cancelled, TrainingDiverged
from datagen.model import training
from datagen.model.state import TrainingState
from datagen.model.training import Watch, one_cycle, run_stage


@pytest.fixture(scope="module")
def data():
    return striped_data(IMAGES)


@pytest.fixture(scope="module")
def held_out():
    return striped_data(12, seed=9)


def test_training_in_slices_gives_the_same_weights_as_in_one_go(data, held_out, tmp_path):
    whole, expected = new_fit(data, held_out), TrainingState()
    run_stage(whole, expected, Watch())
    path, state, done, slices = tmp_path / "state.safetensors", TrainingState(), False, 0

    while not done:
        # Weights of another seed: only what was kept may count.
        sliced = new_fit(data, held_out, seed=1 if slices == 0 else 99)
        done = run_stage(sliced, state, Watch(deadline=time.monotonic()))
        state.save(path)
        state = TrainingState.load(path)
        slices += 1

    assert slices == whole.steps
    assert state.history == expected.history
    assert_same_weights(sliced, whole)


def test_slice_that_takes_long_to_prepare_takes_steps_for_as_long(data, held_out, monkeypatch):
    clock = iter(range(1000))
    # Every look at the clock finds it a second on, and preparing takes two looks.
    monkeypatch.setattr(training.time, "monotonic", lambda: float(next(clock)))
    fit, state = new_fit(data, held_out), TrainingState()
    fit.prepare = lambda: [next(clock) for _ in range(2)]

    assert not run_stage(fit, state, Watch(deadline=0.0))
    assert 1 < state.step < fit.steps


def test_same_seed_trains_the_same_and_another_seed_does_not(data, held_out):
    one, same = (new_fit(data, held_out) for _ in range(2))
    other = new_fit(data, held_out, OPTIONS.model_copy(update={"seed": 3}))
    for stage in (one, same, other):
        run_stage(stage, TrainingState(), Watch())

    assert_same_weights(one, same)
    assert any(not torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


def test_training_leaves_the_global_random_state_alone(data, held_out):
    fit = new_fit(data, held_out)
    before = torch.random.get_rng_state()

    run_stage(fit, TrainingState(), Watch())

    assert torch.equal(torch.random.get_rng_state(), before)


def test_progress_tells_epoch_step_pace_and_terms(data, held_out):
    told = []

    run_stage(new_fit(data, held_out), TrainingState(), Watch(on_progress=told.append))

    assert [(entry["epoch"], entry["step"]) for entry in told] == [(1, 3), (2, 6), (3, 9)]
    for entry in told:
        assert (entry["stage"], entry["epochs"], entry["steps"]) == ("fit", 3, 9)
        assert entry["images_per_second"] > 0
        assert entry["seconds_left"] >= 0
        for term in ("reconstruction", "kl", "total"):
            assert math.isfinite(entry[term])
            assert math.isfinite(entry[f"validation_{term}"])


def test_a_training_that_is_asked_to_stop_stops_before_its_next_step(data, held_out):
    looks = []

    def check():
        looks.append(1)
        if len(looks) == 4:
            raise Cancelled("told to stop")

    fit = new_fit(data, held_out)
    with pytest.raises(Cancelled):
        run_stage(fit, TrainingState(), Watch(check=check))

    expected = new_fit(data, held_out)
    for number in range(3):
        expected.step(number)
    assert_same_weights(fit, expected)


def test_a_loss_that_is_no_number_ends_the_training(held_out, data):
    fit = new_fit(data, held_out)
    with torch.no_grad():
        fit.modules["generator"].encoder.head.bias.fill_(torch.nan)

    with pytest.raises(TrainingDiverged, match=r"was nan at step 3 of fit"):
        run_stage(fit, TrainingState(), Watch())


def test_weights_lost_in_the_last_step_of_an_epoch_end_the_training(data, held_out):
    fit = new_fit(data, held_out)
    taken = fit.step

    def step(number):
        terms = taken(number)
        if number == 5:
            with torch.no_grad():
                fit.modules["generator"].decoder.unfold.bias.fill_(torch.inf)
        return terms

    fit.step = step
    with pytest.raises(TrainingDiverged, match="validation_"):
        run_stage(fit, TrainingState(), Watch())


def test_learning_rate_rises_to_its_peak_and_falls_to_almost_nothing():
    rates = [one_cycle(step, 100, 1e-3) for step in range(100)]

    assert max(rates) == pytest.approx(1e-3, rel=1e-3)
    assert rates[0] == pytest.approx(4e-5)
    assert rates[-1] < 1e-5
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
