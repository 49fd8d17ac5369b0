from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from datagen.model.optimizers import ADAMW, MUON, Optimizers


@pytest.fixture(params=[torch.channels_last, torch.contiguous_format])
def network(request):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = nn.Sequential(
            nn.Conv2d(16, 24, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, 2, 3),
            nn.Flatten(),
            nn.Linear(72, 20),
            nn.Embedding(30, 30),
        )
    return network.to(memory_format=request.param)


def with_gradients(network):
    random = torch.Generator().manual_seed(1)
    for weight in network.parameters():
        weight.grad = torch.randn(weight.shape, generator=random)


def test_muon_takes_the_wide_matrices_and_adamw_the_rest(network):
    optimizers = Optimizers(network, list(network.parameters()), "muon", 1e-3)

    sizes = {
        name: [weight.numel() for group in one.param_groups for weight in group["params"]]
        for name, one in optimizers.by_name.items()
    }
    assert sizes[MUON] == [24 * 16 * 9, 20 * 72]
    assert sum(sizes[ADAMW]) + sum(sizes[MUON]) == sum(w.numel() for w in network.parameters())


def test_step_of_muon_makes_the_update_of_a_kernel_orthogonal(network):
    before = copy.deepcopy(network)
    optimizers = Optimizers(network, list(network.parameters()), "muon", 1e-3)
    with_gradients(network)

    optimizers.step(1e-3)

    change = (network[0].weight - before[0].weight).permute(0, 2, 3, 1).flatten(1)
    values = torch.linalg.svdvals(change.detach())
    assert values.min() > 0.5 * values.max()
    # Along the gradient, and not along that of another order of the kernel's values.
    towards = -network[0].weight.grad.permute(0, 2, 3, 1).flatten(1)
    assert nn.functional.cosine_similarity(change.flatten(), towards.flatten(), dim=0) > 0.5


def test_only_the_weights_that_are_given_learn(network):
    before = copy.deepcopy(network)
    optimizers = Optimizers(network, list(network[:4].parameters()), "muon", 1e-3)
    with_gradients(network)

    optimizers.step(1e-3)

    assert torch.equal(network[4].weight, before[4].weight)
    assert torch.equal(network[5].weight, before[5].weight)
    assert not torch.equal(network[2].weight, before[2].weight)


def test_forgotten_gradients_move_nothing(network):
    optimizers = Optimizers(network, list(network.parameters()), "muon", 1e-3)
    with_gradients(network)
    before = copy.deepcopy(network)

    optimizers.forget_gradients()
    optimizers.step(1e-3)

    for mine, theirs in zip(network.parameters(), before.parameters(), strict=True):
        assert torch.equal(mine, theirs)
