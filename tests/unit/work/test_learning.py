"""Each family learns real digits within seconds, and beats a bound that nothing untrained meets."""

from __future__ import annotations

import pytest
import torch
from tiny import CPU

from datagen.datasets.sample import load_sample
from datagen.model.autoencoders import make_generator
from datagen.model.config import GeneratorConfig
from datagen.model.data import TrainingData
from datagen.model.fit import Fit, held_out_elbo
from datagen.model.state import TrainingState
from datagen.model.training import Watch, run_stage
from datagen.model.training_options import PRESETS, TrainingOptions

# Nats on the 1,000 test images. Untrained, the Bernoulli bound is 543; a decoder that knows no more
# than each pixel's mean comes to 206.
STATED = {
    ("autoencoder", "bernoulli"): 110.0,
    ("vae", "bernoulli"): 145.0,
    ("cvae", "bernoulli"): 140.0,
    ("cvae", "gaussian"): -300.0,
    ("cvae", "discretized_logistic"): 1700.0,
}


@pytest.fixture(scope="module")
def sample():
    splits = load_sample()
    return [
        TrainingData.on(CPU, splits[name].images, splits[name].labels) for name in ("train", "test")
    ]


@pytest.mark.parametrize(("family", "likelihood"), STATED)
def test_every_family_beats_its_stated_bound_on_the_sample(sample, family, likelihood):
    train, test = sample
    sizes = PRESETS["small"]
    options = TrainingOptions.model_validate(
        {"family": family, "likelihood": likelihood, "batch_size": 128, "epochs": 6} | sizes
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make_generator(
            GeneratorConfig(
                family=family,
                likelihood=likelihood,
                image_shape=(1, 28, 28),
                class_count=10,
                **sizes,
            )
        ).to(memory_format=torch.channels_last)
    before = held_out_elbo(model, test, seed=0)["total"]
    fit = Fit(model, train, train.subset(torch.arange(0)), options)
    run_stage(fit, TrainingState(), Watch())
    found = held_out_elbo(fit.kept, test, seed=0)

    assert before > STATED[family, likelihood]
    assert found["total"] < STATED[family, likelihood], (before, found)
    if likelihood == "bernoulli":
        assert (found["kl"] > 1.0) == (family != "autoencoder")
