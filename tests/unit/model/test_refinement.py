from __future__ import annotations

import math
import time

import pytest
import torch
from tiny import striped_data, tiny_model

from datagen.model.refinement import AVERAGE, ELBO_WEIGHT, Refinement, elbo_weight
from datagen.model.state import TrainingState
from datagen.model.training import Watch, run_stage
from datagen.model.training_options import TrainingOptions

OPTIONS = TrainingOptions(refine_epochs=2, batch_size=16, latent_dim=5, seed=2)


@pytest.fixture(scope="module")
def data():
    return striped_data(52)


@pytest.fixture(scope="module")
def held_out():
    return striped_data(12, seed=9)


def new_refinement(data, held_out, seed=1, **changes):
    options = OPTIONS.model_copy(update=changes)
    return Refinement(tiny_model(seed).train().requires_grad_(), data, held_out, options)


def weights(stage):
    return {
        f"{name}.{part}": value.clone()
        for name, module in stage.modules.items()
        for part, value in module.state_dict().items()
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"refine_sampler": "density"},
        {"refine_sampler": "neighbour", "augment": "affine"},
    ],
)
def test_refining_in_slices_gives_the_same_weights_as_in_one_go(data, held_out, tmp_path, changes):
    whole, expected = new_refinement(data, held_out, **changes), TrainingState()
    run_stage(whole, expected, Watch())
    path, state, done = tmp_path / "state.safetensors", TrainingState(), False

    while not done:
        sliced = new_refinement(data, held_out, seed=1 if state.step == 0 else 99, **changes)
        done = run_stage(sliced, state, Watch(deadline=time.monotonic()))
        state.save(path)
        state = TrainingState.load(path)

    assert state.history == expected.history
    for name, value in weights(whole).items():
        assert torch.equal(weights(sliced)[name], value), name


def test_latents_are_drawn_from_what_images_will_be_drawn_from(data, held_out):
    drawn = {}
    for sampler in ("prior", "density", "neighbour"):
        refinement = new_refinement(data, held_out, refine_sampler=sampler)
        model = refinement.modules["generator"]
        image, label = data.rows(torch.arange(40))
        found = refinement.draw(image, label, torch.Generator().manual_seed(3))
        drawn[sampler] = found, model.encode(image, label).mean

    around, at = drawn["neighbour"]
    assert (around - at).abs().mean() < (drawn["prior"][0] - at).abs().mean()
    assert not torch.equal(drawn["prior"][0], drawn["density"][0])


def test_encoder_and_fitted_prior_stay_as_they_were(data, held_out):
    refinement = new_refinement(data, held_out)
    before = weights(refinement)

    run_stage(refinement, TrainingState(), Watch())

    changed = {
        name for name, value in weights(refinement).items() if not torch.equal(value, before[name])
    }
    assert not {name for name in changed if ".encoder." in name or ".prior_" in name}
    assert "generator.decoder.unfold.weight" in changed
    assert "average.decoder.unfold.weight" in changed


def test_average_follows_the_decoder_slowly(data, held_out):
    refinement = new_refinement(data, held_out)
    start = weights(refinement)["generator.decoder.unfold.bias"]

    refinement.step(0)

    now = weights(refinement)
    torch.testing.assert_close(
        now["average.decoder.unfold.bias"],
        AVERAGE * start + (1 - AVERAGE) * now["generator.decoder.unfold.bias"],
        atol=1e-7,
        rtol=1e-4,
    )


def test_terms_of_the_elbo_and_of_the_game_are_shown(data, held_out):
    terms = new_refinement(data, held_out).step(0)

    assert terms.keys() == {"reconstruction", "kl", "total", "adversarial"}
    assert all(value.isfinite() for value in terms.values())
    assert not any(value.requires_grad for value in terms.values())


def test_refining_leaves_the_global_random_state_alone(data, held_out):
    before = torch.random.get_rng_state()

    refinement = new_refinement(data, held_out)
    run_stage(refinement, TrainingState(), Watch())

    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("likelihood", "expected"),
    [
        ("bernoulli", ELBO_WEIGHT),
        ("gaussian", ELBO_WEIGHT * 4 * 0.01),
        ("laplace", ELBO_WEIGHT * 4 * 0.01 * 2),
        ("discretized_logistic", ELBO_WEIGHT * 4 * 0.01 * math.pi**2 / 3),
    ],
)
def test_sharp_likelihoods_are_weighed_down_to_the_size_of_the_game(likelihood, expected):
    model = tiny_model(likelihood=likelihood)
    if model.log_scale is not None:
        torch.nn.init.constant_(model.log_scale, math.log(0.1))

    assert elbo_weight(model) == pytest.approx(expected)
