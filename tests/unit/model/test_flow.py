from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tiny import striped_data, tiny_model

from datagen.model.examples import Examples
from datagen.model.flow_fit import FlowFit
from datagen.model.samplers import TILE, Sampling, draw_latents
from datagen.model.state import TrainingState
from datagen.model.training import Watch, run_stage
from datagen.model.training_options import TrainingOptions

OPTIONS = TrainingOptions(flow_epochs=2, latent_dim=5)

# Of the first and of a far image, by the model below.
PINNED = [
    [-4.06251, -0.32931, -0.28811, 0.7023, 1.02438],
    [-1.63753, 0.26703, -0.37587, -1.74342, -0.88539],
]


def model_with_flow(**changes):
    """A model whose flow does something, as a fitted one does."""
    model = tiny_model(flow_width=16, flow_blocks=2, **changes)
    random = torch.Generator().manual_seed(8)
    for weight in model.flow.parameters():
        weight.data = 0.3 * torch.randn(weight.shape, generator=random)
    model.flow.centre.copy_(torch.randn(5, generator=random))
    model.flow.spread.copy_(torch.rand(5, generator=random) + 0.5)
    return model


def test_strength_of_nothing_gives_the_latent_itself_and_one_forgets_it():
    flow = model_with_flow().flow
    random = torch.Generator().manual_seed(1)
    noise, latent = torch.randn(2, 4, 5, generator=random)
    label = torch.tensor([0, 1, 2, 0])

    with torch.no_grad():
        same = flow.transport(noise, label, latent, 0.0)
        forgotten = flow.transport(noise, label, latent, 1.0)
        alone = flow.transport(noise, label)

    torch.testing.assert_close(same, latent)
    torch.testing.assert_close(forgotten, alone)


def test_new_flow_moves_nothing_but_centre_and_spread():
    flow = tiny_model(flow_width=16).flow
    flow.end.bias.data.zero_()
    flow.centre.fill_(3.0)
    noise = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))

    with torch.no_grad():
        found = flow.transport(noise, torch.tensor([0, 1, 2, 0]))

    torch.testing.assert_close(found, noise + 3.0)


@pytest.mark.parametrize("sampler", ["prior", "neighbour"])
@pytest.mark.parametrize("family", ["vae", "cvae"])
def test_latent_depends_on_its_own_counters_and_label_alone(sampler, family):
    model = model_with_flow(family=family)
    random = np.random.default_rng(0)
    index, labels = np.arange(2 * TILE + 9), random.integers(0, 3, 2 * TILE + 9)
    examples = Examples(
        mean=random.normal(size=(6, 5)).astype(np.float16),
        spread=np.full((6, 5), 0.1, np.float16),
        labels=np.array([0, 0, 1, 1, 2, 2]),
        rows=np.arange(6),
    )

    def drawn(rows):
        own = index[rows]
        return draw_latents(
            model, Sampling(sampler), 3, own, np.zeros_like(own), labels[rows], examples
        )

    whole = drawn(np.arange(len(index)))
    for rows in (np.array([5]), np.arange(100, 470), random.permutation(len(index))):
        part = drawn(rows)
        assert np.array_equal(part.latents, whole.latents[rows])
        assert np.array_equal(part.sources, whole.sources[rows])


def test_latents_of_a_flow_stay_what_they_were():
    """Jobs of earlier versions are made again from their seed; rounding differs by machine."""
    index = np.array([0, 5_000_000_000])
    drawn = draw_latents(
        model_with_flow(), Sampling(), 2026, index, np.array([0, 3]), np.array([0, 2])
    )

    np.testing.assert_allclose(drawn.latents, PINNED, atol=1e-4)


def test_latents_do_not_depend_on_the_number_of_threads():
    model = tiny_model(image_shape=(1, 8, 8), latent_dim=96, flow_width=512)
    for weight in model.flow.parameters():
        weight.data.normal_(std=0.05, generator=torch.Generator().manual_seed(8))
    index = np.arange(TILE + 40)
    before = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            drawn = draw_latents(model, Sampling(), 1, index, np.zeros_like(index), index % 3)
            found.append(drawn.latents)
    finally:
        torch.set_num_threads(before)

    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_temperature_and_truncation_narrow_what_is_drawn():
    model = model_with_flow()
    index = np.arange(500)

    def spread(**sampling):
        found = draw_latents(
            model, Sampling(**sampling), 1, index, np.zeros_like(index), np.zeros_like(index)
        )
        return np.ptp(found.latents, axis=0).mean()

    assert spread(temperature=0.0) == 0
    assert spread(temperature=0.5) < 0.8 * spread()
    assert spread(truncation=0.5) < 0.8 * spread()


def test_fitted_flow_draws_each_label_where_its_posteriors_lie():
    data = striped_data(120)
    model = tiny_model(flow_width=64, flow_blocks=2).requires_grad_()
    options = OPTIONS.model_copy(update={"flow_epochs": 8})
    stage = FlowFit(model, data, data.subset(torch.arange(30)), options)
    state = TrainingState()

    assert run_stage(stage, state, Watch())

    model.flow.load_state_dict(stage.kept.state_dict())
    first, last = state.history[0], state.history[-1]
    assert last["validation_flow_matching"] < first["validation_flow_matching"]
    found = model.encode(*data.rows(torch.arange(120))).mean.detach()
    labels = data.all_labels
    noise = torch.randn(3000, 5, generator=torch.Generator().manual_seed(2))
    every = torch.arange(3000) % 3
    with torch.no_grad():
        drawn = model.draw(every, noise)
    centres = torch.stack([found[labels == label].mean(dim=0) for label in range(3)])
    made = torch.stack([drawn[every == label].mean(dim=0) for label in range(3)])
    nearest = torch.cdist(made, centres).argmin(dim=1)
    assert nearest.tolist() == [0, 1, 2]


def test_dimension_that_carries_nothing_stays_standard_normal():
    model = tiny_model(flow_width=16)
    model.encoder.head.weight.zero_()
    model.encoder.head.bias.zero_()
    model.requires_grad_()
    data = striped_data(30)
    stage = FlowFit(model, data, data.subset(torch.arange(0)), OPTIONS)

    terms = stage.step(0)

    torch.testing.assert_close(model.flow.spread, torch.ones(5), atol=1e-5, rtol=0)
    assert float(terms["flow_matching"]) < 4


def test_interrupted_fit_comes_to_the_same_flow(tmp_path):
    data = striped_data(60)
    held_out = data.subset(torch.arange(9))

    def new():
        return FlowFit(tiny_model(flow_width=16).requires_grad_(), data, held_out, OPTIONS)

    whole, state = new(), TrainingState()
    assert run_stage(whole, state, Watch())
    state, asked, slices = TrainingState(), itertools.count(1), 1
    while True:
        parts = new()
        if run_stage(parts, state, Watch(gives_way=lambda: next(asked) % 37 == 0)):
            break
        slices += 1
        state.save(tmp_path / "state")
        state = TrainingState.load(tmp_path / "state")

    assert slices == 6
    for name, value in whole.kept.state_dict().items():
        assert torch.equal(value, parts.kept.state_dict()[name]), name


def test_classes_are_drawn_equally_often_where_that_is_asked_for():
    data = striped_data(90)
    data = data.subset(torch.cat([torch.nonzero(data.all_labels == 0)[:, 0][:30], torch.arange(4)]))
    counts = []
    for balanced in (False, True):
        options = OPTIONS.model_copy(update={"balanced": balanced})
        stage = FlowFit(tiny_model(flow_width=16).requires_grad_(), data, data, options)
        found = stage._posteriors()
        rows = stage._rows(found, torch.Generator().manual_seed(1))
        counts.append(found.labels[rows].bincount(minlength=3))

    assert counts[0].min() < 0.2 * counts[0].max()
    assert counts[1].min() > 0.7 * counts[1].max()
