from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import striped_data, tiny_model

from datagen.errors import Cancelled, InvalidFile, TrainingDiverged
from datagen.model.config import TrainingOptions
from datagen.model.training import (
    Batches,
    Fit,
    TrainingData,
    TrainingState,
    Watch,
    generator_at,
    held_out_elbo,
    one_cycle,
    progress_bar,
    run_stage,
)

OPTIONS = TrainingOptions(epochs=3, batch_size=16, latent_dim=5, seed=2)
IMAGES = 52


@pytest.fixture(scope="module")
def data():
    return striped_data(IMAGES)


@pytest.fixture(scope="module")
def held_out():
    return striped_data(12, seed=9)


def new_fit(data, held_out, options=OPTIONS, seed=1):
    return Fit(tiny_model(seed).train().requires_grad_(), data, held_out, options)


def weights(stage):
    return {
        f"{name}.{part}": value
        for name, module in stage.modules.items()
        for part, value in module.state_dict().items()
    }


def assert_same_weights(one, other):
    found, expected = weights(one), weights(other)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_training_lowers_the_loss_on_images_that_it_has_not_seen(held_out):
    options = OPTIONS.model_copy(update={"epochs": 12, "learning_rate": 1e-2})
    fit, state = new_fit(striped_data(240), held_out, options), TrainingState()

    assert run_stage(fit, state, Watch())

    first, last = state.history[0], state.history[-1]
    assert last["validation_total"] < 0.9 * first["validation_total"]
    assert last["total"] == pytest.approx(last["reconstruction"] + last["kl"], rel=1e-5)


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


def test_a_training_that_is_told_to_stop_stops_before_its_next_step(data, held_out):
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


def test_without_kl_the_posterior_leaves_the_prior(held_out):
    options = OPTIONS.model_copy(update={"epochs": 15, "learning_rate": 1e-2})
    data, found = striped_data(120), {}
    for name in ("plain", "no_kl", "no_reconstruction"):
        own = options if name == "plain" else options.model_copy(update={name: True})
        fit = new_fit(data, held_out, own)
        run_stage(fit, TrainingState(), Watch())
        found[name] = held_out_elbo(fit.modules["generator"], held_out, 0)

    assert found["no_kl"]["kl"] > 5 * found["plain"]["kl"]
    assert found["no_reconstruction"]["kl"] < 0.1
    assert found["no_reconstruction"]["reconstruction"] > found["plain"]["reconstruction"]


def test_kl_is_warmed_up_over_the_first_part_of_the_training(data, held_out):
    options = OPTIONS.model_copy(update={"kl_warmup": 0.5, "beta": 2.0})
    fit = new_fit(data, held_out, options)
    without = new_fit(data, held_out, options.model_copy(update={"no_kl": True}))
    fit.step(0)
    without.step(0)
    # The weight of the KL is 0 in the first step.
    assert_same_weights(fit, without)

    fit.step(1)
    without.step(1)
    assert not torch.equal(
        fit.modules["generator"].encoder.head.weight,
        without.modules["generator"].encoder.head.weight,
    )


def test_fewer_images_than_a_batch_are_trained_on_together(held_out):
    fit = new_fit(striped_data(5), held_out)

    assert (fit.batch_size, fit.steps_per_epoch, fit.steps) == (5, 1, 3)
    assert run_stage(fit, TrainingState(), Watch())


def test_every_row_comes_once_an_epoch_in_an_order_of_its_own():
    batches = Batches(count=40, size=8, seed=1, stage="fit")
    epochs = [
        torch.cat([batches.rows(epoch * 5 + place) for place in range(5)]) for epoch in range(2)
    ]

    for order in epochs:
        assert order.sort().values.tolist() == list(range(40))
    assert not torch.equal(*epochs)


def test_randomness_of_a_step_comes_from_its_counters():
    def drawn(*counters):
        return torch.rand(4, generator=generator_at(*counters)).tolist()

    assert drawn(1, "fit", 5) == drawn(1, "fit", 5)
    assert (
        len(
            {
                tuple(drawn(*counters))
                for counters in [(1, "fit", 5), (2, "fit", 5), (1, "refine", 5), (1, "fit", 6)]
            }
        )
        == 4
    )


def test_learning_rate_rises_to_its_peak_and_falls_to_almost_nothing():
    rates = [one_cycle(step, 100, 1e-3) for step in range(100)]

    assert max(rates) == pytest.approx(1e-3, rel=1e-3)
    assert rates[0] == pytest.approx(4e-5)
    assert rates[-1] < 1e-5
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_held_out_terms_do_not_depend_on_the_global_state_and_repeat(held_out):
    model = tiny_model()

    first, second = (held_out_elbo(model, held_out, 3) for _ in range(2))

    assert first == second
    assert first["total"] == first["reconstruction"] + first["kl"]


def test_balanced_batches_draw_every_class_equally_often():
    labels = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    batches = Batches(count=1000, size=1000, seed=1, stage="fit", labels=labels)
    drawn = torch.cat([labels[batches.rows(epoch)] for epoch in range(10)])

    shares = drawn.bincount() / len(drawn)
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), atol=0.02, rtol=0)
    assert torch.equal(batches.rows(4), Batches(1000, 1000, 1, "fit", labels).rows(4))


def test_average_of_the_weights_is_kept_and_survives_slices(data, held_out, tmp_path):
    options = OPTIONS.model_copy(update={"average": 0.9})
    whole = new_fit(data, held_out, options)
    run_stage(whole, TrainingState(), Watch())
    path, state = tmp_path / "state.safetensors", TrainingState()
    done = False
    while not done:
        sliced = new_fit(data, held_out, options)
        done = run_stage(sliced, state, Watch(deadline=time.monotonic()))
        state.save(path)
        state = TrainingState.load(path)

    assert whole.kept is not whole.modules["generator"]
    assert_same_weights(sliced, whole)
    weight, last = (stage.encoder.head.weight for stage in (whole.kept, whole.modules["generator"]))
    assert not torch.equal(weight, last)


def test_training_stops_when_held_out_images_gain_nothing_and_keeps_its_best(data):
    # Held-out images of noise: what is learnt of stripes makes them worse, sooner or later.
    random = torch.Generator().manual_seed(1)
    noise = TrainingData(
        torch.randint(0, 255, (12, 1, 9, 7), dtype=torch.uint8, generator=random),
        torch.arange(12) % 3,
    )
    options = OPTIONS.model_copy(update={"epochs": 60, "patience": 2, "learning_rate": 0.02})
    fit, state = new_fit(data, noise, options), TrainingState()
    run_stage(fit, state, Watch())

    totals = [entry["validation_total"] for entry in state.history]
    best = totals.index(min(totals))
    assert len(totals) == best + 3 < 60
    assert held_out_elbo(fit.kept, noise, options.seed)["total"] == pytest.approx(min(totals))


def test_labels_that_are_left_out_train_the_null_label(data, held_out):
    options = OPTIONS.model_copy(update={"label_dropout": 0.5})
    model = tiny_model(null_label=True).train().requires_grad_()
    before = model.decoder.label.weight[3].clone()
    run_stage(Fit(model, data, held_out, options), TrainingState(), Watch())

    assert not torch.equal(model.decoder.label.weight[3], before)


@pytest.mark.parametrize("family", ["autoencoder", "vae", "cvae"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "discretized_logistic"])
def test_every_family_and_likelihood_learns(held_out, family, likelihood):
    model = tiny_model(1, family=family, likelihood=likelihood).train().requires_grad_()
    before = held_out_elbo(model, held_out, 0)["reconstruction"]
    options = TrainingOptions(epochs=8, batch_size=16, latent_dim=5, family=family)
    run_stage(Fit(model, striped_data(240), held_out, options), TrainingState(), Watch())

    after = held_out_elbo(model, held_out, 0)
    assert after["reconstruction"] < before - 3
    assert (after["kl"] == 0) == (family == "autoencoder")


def test_learnt_prior_moves_to_where_its_labels_are(held_out):
    model = tiny_model(1, learnt_prior=True).train().requires_grad_()
    with torch.no_grad():
        model.prior_mean.weight.zero_()
    options = TrainingOptions(epochs=6, batch_size=16, latent_dim=5, prior="learnt")
    run_stage(Fit(model, striped_data(240), held_out, options), TrainingState(), Watch())

    assert model.prior_mean.weight.abs().max() > 0.01


def test_batch_that_does_not_fit_is_taken_in_pieces_with_the_same_gradients(data, held_out):
    whole, pieces = (new_fit(data, held_out) for _ in range(2))
    forward, calls = pieces.modules["generator"].forward, []

    def tight(image, label, noise):
        calls.append(len(image))
        if len(image) > 4:
            raise torch.cuda.OutOfMemoryError
        return forward(image, label, noise)

    pieces.modules["generator"].forward = tight
    expected, found = whole.step(0), pieces.step(0)

    assert calls == [16, 8, 4, 4, 4, 4]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    for mine, theirs in zip(
        pieces.modules["generator"].parameters(),
        whole.modules["generator"].parameters(),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-3)


def test_state_is_read_back_as_it_was_kept(data, held_out, tmp_path):
    fit, path = new_fit(data, held_out), tmp_path / "state.safetensors"
    state = TrainingState()
    run_stage(fit, state, Watch(deadline=time.monotonic()))

    state.save(path)
    loaded = TrainingState.load(path)

    assert (loaded.stage, loaded.step, loaded.history) == ("fit", 1, state.history)
    assert loaded.tensors.keys() == state.tensors.keys()
    assert all(torch.equal(loaded.tensors[name], value) for name, value in state.tensors.items())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_damaged_state_is_refused(data, held_out, tmp_path):
    path, state = tmp_path / "state.safetensors", TrainingState()
    run_stage(new_fit(data, held_out), state, Watch(deadline=time.monotonic()))
    state.save(path)
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(InvalidFile, match=r"state\.safetensors is damaged"):
        TrainingState.load(path)


@pytest.mark.parametrize("metadata", [None, {"datagen-training": "{"}, {"datagen-training": "{}"}])
def test_a_file_that_holds_no_training_is_refused(tmp_path, metadata):
    path = tmp_path / "state.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata)

    with pytest.raises(InvalidFile, match="holds "):
        TrainingState.load(path)


def test_a_state_of_another_architecture_is_refused(data, held_out):
    state = TrainingState()
    run_stage(new_fit(data, held_out), state, Watch(deadline=time.monotonic()))

    with pytest.raises(InvalidFile, match="another generator"):
        state.restore_module("generator", tiny_model(width=16))


def test_rows_are_scaled_to_one():
    data = TrainingData(
        torch.tensor(np.array([[[[0, 51, 255]]]], dtype=np.uint8)), torch.tensor([2])
    )
    image, label = data.rows(torch.tensor([0]))

    torch.testing.assert_close(image.flatten(), torch.tensor([0.0, 0.2, 1.0]))
    assert label.tolist() == [2]


def test_progress_bar_shows_reconstruction_kl_and_total_of_each_epoch(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar() as show:
        for epoch in (1, 2):
            show(
                {"stage": "fit", "epoch": epoch, "epochs": 2, "step": epoch, "steps": 2}
                | {"reconstruction": 80.0, "kl": 20.0, "total": 100.0}
            )
        show({"stage": "judge", "epoch": 1, "epochs": 1, "step": 1, "steps": 1, "loss": 0.1})

    shown = capsys.readouterr().out
    assert "fit 2/2 reconstruction 80.00 kl 20.00 total 100.00" in " ".join(shown.split())
    assert "judge 1/1" in shown
