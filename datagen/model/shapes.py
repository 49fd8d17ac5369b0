"""Names, types and shapes of the tensors that a checkpoint of an architecture holds; no torch.

So a file can be checked before memory is taken for what it claims to be, and where there is no
torch at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from datagen.model.config import (
    FREQUENCIES,
    NECK_WIDTH,
    TRANSFORM_VALUES,
    GeneratorConfig,
    JudgeConfig,
)

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
    dims = config.latent_dim
    yield from _multi_scale(config) if config.levels else _single_scale(config)
    yield from _normals("prior", config.prior_classes, 1, dims)
    yield from _normals("density", config.prior_classes, config.components, dims)
    if config.flow_width:
        yield from _flow(config)
    if config.likelihood != "bernoulli":
        yield "log_scale", Form(FLOAT, (config.image_shape[0],))
    if config.learnt_prior:
        for name in ("prior_mean", "prior_logvar"):
            yield f"{name}.weight", Form(FLOAT, (config.label_count, dims))


def _single_scale(config: GeneratorConfig) -> Iterator[tuple[str, Form]]:
    positions = config.grid[0] * config.grid[1]
    folded = config.image_shape[0] * config.stride**2
    wide, slim, dims = config.encoder_width, config.width, config.latent_dim
    yield from _layer("encoder.fold", wide, folded, 3, 3)
    if config.label_count:
        yield "encoder.label.weight", Form(FLOAT, (config.label_count, wide))
        yield "decoder.label.weight", Form(FLOAT, (config.label_count, slim * positions))
    if config.transform_condition:
        yield "encoder.transform.weight", Form(FLOAT, (wide, TRANSFORM_VALUES))
        yield "decoder.transform.weight", Form(FLOAT, (slim * positions, TRANSFORM_VALUES))
    yield from _blocks("encoder.blocks", config.encoder_blocks, wide)
    yield from _layer("encoder.head", _answers(config) * dims, wide * positions)
    yield from _layer("decoder.latent", slim * positions, dims)
    yield from _blocks("decoder.blocks", config.blocks, slim)
    yield from _layer("decoder.unfold", folded, slim, 3, 3)


def _multi_scale(config: GeneratorConfig) -> Iterator[tuple[str, Form]]:
    channels = config.image_shape[0]
    neck = NECK_WIDTH * math.prod(config.coarsest_grid)
    widths = config.level_widths(config.encoder_width)
    yield from _layer("encoder.fold", widths[0], channels * config.stride**2, 3, 3)
    for level, width in enumerate(widths):
        yield from _blocks(f"encoder.levels.{level}", config.encoder_blocks, width)
    for level, (fine, coarse) in enumerate(pairwise(widths)):
        yield from _layer(f"encoder.down.{level}", coarse, fine, 4, 4)
    yield from _conditions("encoder.conditions", config, widths[-1])
    yield from _layer("encoder.neck", NECK_WIDTH, widths[-1], 1, 1)
    yield from _layer("encoder.head", _answers(config) * config.latent_dim, neck)
    widths = config.level_widths(config.width)[::-1]
    yield from _layer("decoder.latent", neck, config.latent_dim)
    yield from _layer("decoder.widen", widths[0], NECK_WIDTH, 3, 3)
    yield from _conditions("decoder.conditions", config, widths[0])
    for level, width in enumerate(widths):
        yield from _blocks(f"decoder.levels.{level}", config.blocks, width)
    for level, (coarse, fine) in enumerate(pairwise(widths)):
        yield from _layer(f"decoder.up.{level}", 4 * fine, coarse, 3, 3)
    last, fold = widths[-1], config.stride
    if config.detail_width:
        yield from _layer("decoder.detail", 4 * config.detail_width, last, 3, 3)
        yield from _block("decoder.detail_block", config.detail_width)
        last, fold = config.detail_width, config.stride // 2
    yield from _layer("decoder.unfold", channels * fold**2, last, 3, 3)


def _conditions(name: str, config: GeneratorConfig, width: int) -> Iterator[tuple[str, Form]]:
    if config.label_count:
        yield f"{name}.label.weight", Form(FLOAT, (config.label_count, width))
    if config.transform_condition:
        yield f"{name}.transform.weight", Form(FLOAT, (width, TRANSFORM_VALUES))


def _flow(config: GeneratorConfig) -> Iterator[tuple[str, Form]]:
    dims, width = config.latent_dim, config.flow_width
    yield "flow.centre", Form(FLOAT, (dims,))
    yield "flow.spread", Form(FLOAT, (dims,))
    yield "flow.label.weight", Form(FLOAT, (config.prior_classes + 1, width))
    yield from _layer("flow.start", width, dims)
    yield from _layer("flow.time.0", width, 2 * FREQUENCIES)
    yield from _layer("flow.time.2", width, width)
    for number in range(config.flow_blocks):
        yield from _norm(f"flow.blocks.{number}.norm", width)
        for part in ("first", "condition", "second"):
            yield from _layer(f"flow.blocks.{number}.{part}", width, width)
    yield from _norm("flow.norm", width)
    yield from _layer("flow.end", dims, width)


def _answers(config: GeneratorConfig) -> int:
    return 1 if config.family == "autoencoder" else 2


def _norm(name: str, width: int) -> Iterator[tuple[str, Form]]:
    for part in ("weight", "bias"):
        yield f"{name}.{part}", Form(FLOAT, (width,))


def _layer(name: str, *shape: int) -> Iterator[tuple[str, Form]]:
    yield f"{name}.weight", Form(FLOAT, shape)
    yield f"{name}.bias", Form(FLOAT, shape[:1])


def _blocks(name: str, count: int, width: int) -> Iterator[tuple[str, Form]]:
    for number in range(count):
        yield from _block(f"{name}.{number}", width)


def _block(name: str, width: int) -> Iterator[tuple[str, Form]]:
    yield from _layer(f"{name}.mix", width, width, 3, 3)
    yield from _layer(f"{name}.project", width, width, 1, 1)


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
