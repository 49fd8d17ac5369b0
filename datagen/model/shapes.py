"""Names, types and shapes of the tensors that a checkpoint of an architecture holds; no torch.

So a file can be checked before memory is taken for what it claims to be, and where there is no
torch at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from datagen.model.config import GeneratorConfig, JudgeConfig

FLOAT, INTEGER = "F32", "I64"
_BYTES = {FLOAT: 4, INTEGER: 8}


class Form(NamedTuple):
    """Type, as safetensors names it, and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]


Forms = dict[str, Form]


def size_of(forms: Forms) -> int:
    """Bytes that tensors of these forms take together."""
    return sum(_BYTES[form.dtype] * math.prod(form.shape) for form in forms.values())


def generator_forms(config: GeneratorConfig) -> Forms:
    """The tensors of a generator."""
    return dict(_generator(config))


def judge_forms(config: JudgeConfig) -> Forms:
    """The tensors of a judge."""
    return dict(_judge(config))


def _generator(config: GeneratorConfig) -> Iterator[tuple[str, Form]]:
    positions = config.grid[0] * config.grid[1]
    folded = config.image_shape[0] * config.stride**2
    wide, slim, dims = config.encoder_width, config.width, config.latent_dim
    answers = 1 if config.family == "autoencoder" else 2
    yield from _layer("encoder.fold", wide, folded, 3, 3)
    if config.label_count:
        yield "encoder.label.weight", Form(FLOAT, (config.label_count, wide))
        yield "decoder.label.weight", Form(FLOAT, (config.label_count, slim * positions))
    yield from _blocks("encoder.blocks", config.encoder_blocks, wide)
    yield from _layer("encoder.head", answers * dims, wide * positions)
    yield from _layer("decoder.latent", slim * positions, dims)
    yield from _blocks("decoder.blocks", config.blocks, slim)
    yield from _layer("decoder.unfold", folded, slim, 3, 3)
    yield from _normals("prior", config.prior_classes, 1, dims)
    yield from _normals("density", config.prior_classes, config.components, dims)
    if config.likelihood != "bernoulli":
        yield "log_scale", Form(FLOAT, (config.image_shape[0],))
    if config.learnt_prior:
        for name in ("prior_mean", "prior_logvar"):
            yield f"{name}.weight", Form(FLOAT, (config.label_count, dims))


def _layer(name: str, *shape: int) -> Iterator[tuple[str, Form]]:
    yield f"{name}.weight", Form(FLOAT, shape)
    yield f"{name}.bias", Form(FLOAT, shape[:1])


def _blocks(name: str, count: int, width: int) -> Iterator[tuple[str, Form]]:
    for number in range(count):
        yield from _layer(f"{name}.{number}.mix", width, width, 3, 3)
        yield from _layer(f"{name}.{number}.project", width, width, 1, 1)


def _normals(name: str, classes: int, components: int, dims: int) -> Iterator[tuple[str, Form]]:
    yield f"{name}.share", Form(FLOAT, (classes, components))
    yield f"{name}.mean", Form(FLOAT, (classes, components, dims))
    yield f"{name}.scale", Form(FLOAT, (classes, components, dims, dims))


def _judge(config: JudgeConfig) -> Iterator[tuple[str, Form]]:
    wide = config.width
    # Numbers of the layers: between them stand the activations, which hold nothing.
    for layer, outputs, inputs in (
        (1, wide, 4 * config.image_shape[0]),
        (5, 2 * wide, wide),
        (8, 2 * wide, 2 * wide),
    ):
        yield f"features.{layer}.weight", Form(FLOAT, (outputs, inputs, 3, 3))
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"features.{layer + 1}.{part}", Form(FLOAT, (outputs,))
        yield f"features.{layer + 1}.num_batches_tracked", Form(INTEGER, ())
    yield from _layer("head.1", config.class_count, config.feature_count)
