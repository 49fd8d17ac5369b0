"""Fits of tiny models, and comparing the weights of stages."""

from __future__ import annotations

import torch
from tiny import tiny_model

from datagen.model.fit import Fit
from datagen.model.training_options import TrainingOptions

OPTIONS = TrainingOptions(epochs=3, batch_size=16, latent_dim=5, seed=2)
IMAGES = 52


def new_fit(data, held_out, options=OPTIONS, seed=1, **changes):
    """A fit of a tiny model, of which the seed makes the weights."""
    return Fit(tiny_model(seed, **changes).train().requires_grad_(), data, held_out, options)


def weights(stage):
    """All weights of a stage by name."""
    return {
        f"{name}.{part}": value
        for name, module in stage.modules.items()
        for part, value in module.state_dict().items()
    }


def assert_same_weights(one, other):
    """Bit by bit."""
    found, expected = weights(one), weights(other)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
