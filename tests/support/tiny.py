"""Networks and images that are small enough to train within a test."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from datagen.images import LabelledImages
from datagen.model.autoencoders import Autoencoder, make_generator
from datagen.model.config import GeneratorConfig, JudgeConfig
from datagen.model.data import TrainingData
from datagen.model.header import CheckpointHeader
from datagen.quality.judge import Judge
from datagen.quality.report import Effort

CPU = torch.device("cpu")
SHAPE = (1, 9, 7)
CLASSES = 3
CLASS_NAMES = tuple(f"class {number}" for number in range(CLASSES))
# A quality report within seconds.
LITTLE_EFFORT = Effort(True, 60, 200, 30, 20, 15, 2, batch_size=32)


def tiny_config(**changes: Any) -> GeneratorConfig:
    """A generator of a few thousand weights; neither side is a multiple of its stride."""
    plain = {
        "image_shape": SHAPE,
        "class_count": CLASSES,
        "latent_dim": 5,
        "width": 8,
        "encoder_width": 8,
        "blocks": 1,
    }
    return GeneratorConfig.model_validate(plain | changes)


def tiny_model(seed: int = 0, **changes: Any) -> Autoencoder:
    """A generator with random weights and a prior that differs from N(0, I)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_generator(tiny_config(**changes))
        for prior in (model.prior, model.density):
            prior.mean.normal_()
            prior.scale.copy_(torch.tril(torch.randn_like(prior.scale)))
    return model.eval().requires_grad_(requires_grad=False)


def tiny_judge(seed: int = 0, **changes: Any) -> Judge:
    """A judge with random weights."""
    plain = {"image_shape": SHAPE, "class_count": CLASSES, "width": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Judge(JudgeConfig.model_validate(plain | changes))
    return judge.eval().requires_grad_(requires_grad=False)


def opinionated_judge(model: Autoencoder, seed: int = 0) -> Judge:
    """A judge whose opinion of the generator's images differs widely from one to the next."""
    judge = tiny_judge(seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        latents = torch.randn(90, model.config.latent_dim)
        images = torch.sigmoid(model.decode(latents, torch.arange(90) % CLASSES))
        seen = judge.hidden(images)
        head = judge.head[1]
        head.weight *= 3.0 / (seen @ head.weight.T).std(dim=0)[:, None]
        head.bias.copy_(-head.weight @ seen.mean(dim=0))
    return judge


def tiny_header(
    kind: str, config: GeneratorConfig | JudgeConfig, **changes: Any
) -> CheckpointHeader:
    """A header that fits a configuration."""
    plain = {
        "kind": kind,
        "config": config.model_dump(mode="json"),
        "class_names": [f"class {number}" for number in range(config.class_count)],
        "image_shape": config.image_shape,
        "training_digest": "0" * 64,
        "metrics": {"negative_elbo": 97.5},
        "datagen_version": "0.1.0",
    }
    return CheckpointHeader.model_validate(plain | changes)


def striped_images(
    count: int, shape: tuple[int, int, int] = SHAPE, classes: int = CLASSES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, C, H, W) that show their label by the place of a bright stripe."""
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % classes
    images = random.integers(0, 80, (count, *shape), dtype=np.uint8)
    images[np.arange(count), :, labels % shape[1], :] = 250
    return images, labels


def striped_set(count: int, seed: int = 0, names: tuple[str, ...] = CLASS_NAMES) -> LabelledImages:
    """The same, as a split of a dataset."""
    images, labels = striped_images(count, seed=seed)
    return LabelledImages(images, labels, names)


def striped_data(count: int, **changes: Any) -> TrainingData:
    """The same, as a training holds them."""
    images, labels = striped_images(count, **changes)
    return TrainingData(torch.tensor(images), torch.tensor(labels))
