from __future__ import annotations

import time

import pytest
import torch
from fits import IMAGES, OPTIONS, assert_same_weights, new_fit
from tiny import striped_data, tiny_model

from datagen.model.data import TrainingData
from datagen.model.fit import Fit, held_out_elbo
from datagen.model.state import TrainingState
from datagen.model.training import Watch, run_stage
from datagen.model.training_options import TrainingOptions


@pytest.fixture(scope="module")
def data():
    return striped_data(IMAGES)


@pytest.fixture(scope="module")
def held_out():
    return striped_data(12, seed=9)


def test_training_lowers_the_loss_on_images_that_it_has_not_seen(held_out):
    options = OPTIONS.model_copy(update={"epochs": 12, "learning_rate": 1e-2})
    fit, state = new_fit(striped_data(240), held_out, options), TrainingState()

    assert run_stage(fit, state, Watch())

    first, last = state.history[0], state.history[-1]
    assert last["validation_total"] < 0.9 * first["validation_total"]
    assert last["total"] == pytest.approx(last["reconstruction"] + last["kl"], rel=1e-5)


@pytest.mark.parametrize("networks", [{}, {"levels": 1, "stride": 2}])
def test_without_kl_the_posterior_leaves_the_prior(held_out, networks):
    options = OPTIONS.model_copy(update={"epochs": 15, "learning_rate": 1e-2})
    data, found = striped_data(120), {}
    for name in ("plain", "no_kl", "no_reconstruction"):
        own = options if name == "plain" else options.model_copy(update={name: True})
        fit = new_fit(data, held_out, own, **networks)
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


def test_held_out_terms_do_not_depend_on_the_global_state_and_repeat(held_out):
    model = tiny_model()

    first, second = (held_out_elbo(model, held_out, 3) for _ in range(2))

    assert first == second
    assert first["total"] == first["reconstruction"] + first["kl"]


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
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "laplace", "discretized_logistic"])
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

    def tight(image, label, noise, transform):
        calls.append(len(image))
        if len(image) > 4:
            raise torch.cuda.OutOfMemoryError
        return forward(image, label, noise, transform)

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
        # Where a device computes in bfloat16, sums in another order differ by more than float32's.
        assert (mine.grad - theirs.grad).norm() <= 0.02 * theirs.grad.norm()


def test_model_that_tells_transforms_apart_sees_half_of_the_images_as_they_are(data, held_out):
    model = tiny_model(levels=1, stride=2, transform_condition=True).requires_grad_()
    options = OPTIONS.model_copy(update={"augment": "affine", "batch_size": 48})
    forward, seen = model.forward, []

    def noted(image, label, noise, transform):
        seen.append((image, transform))
        return forward(image, label, noise, transform)

    model.forward = noted
    fit = Fit(model, data, held_out, options)
    fit.step(0)

    (image, transform), rows = seen[0], fit._batches.rows(0)
    plain = (transform == 0).all(dim=1)
    same = torch.isclose(image, data.rows(rows)[0], atol=1e-5).flatten(1).all(dim=1)
    assert 12 < int(plain.sum()) < 36
    assert torch.equal(plain, same)


def test_augmented_training_sees_other_images_every_time(data, held_out):
    plain = new_fit(data, held_out)
    bent, again = (
        new_fit(data, held_out, OPTIONS.model_copy(update={"augment": "affine"})) for _ in range(2)
    )
    for fit in (plain, bent, again):
        fit.step(0)

    assert_same_weights(bent, again)
    with pytest.raises(AssertionError):
        assert_same_weights(plain, bent)


def test_perceptual_distance_is_minimised_beside_the_bound_and_not_reported(data, held_out):
    seen = []

    def apart(image, reconstruction, step):
        seen.append((image.shape, step))
        return (image - reconstruction).square().mean(dim=(1, 2, 3))

    plain, weighted = (
        Fit(tiny_model().requires_grad_(), data, held_out, OPTIONS.model_copy(update=own), apart)
        for own in ({}, {"feature_weight": 9.0})
    )
    first, second = plain.step(0), weighted.step(0)

    for name, value in first.items():
        torch.testing.assert_close(second[name], value)
    assert [step for _, step in seen] == [0, 0]
    assert any(
        not torch.equal(mine, theirs)
        for mine, theirs in zip(
            plain.modules["generator"].parameters(),
            weighted.modules["generator"].parameters(),
            strict=True,
        )
    )
