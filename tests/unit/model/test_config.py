from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from datagen.model.config import GeneratorConfig

MNIST = {"image_shape": (1, 28, 28), "class_count": 10}


def test_defaults_are_those_of_the_bundled_model():
    config = GeneratorConfig(**MNIST)

    assert (config.latent_dim, config.width, config.grid) == (16, 64, (7, 7))


@pytest.mark.parametrize(
    ("shape", "grid"), [((1, 1, 1), (1, 1)), ((3, 9, 4), (3, 1)), ((1, 8, 33), (2, 9))]
)
def test_grid_covers_sides_that_are_no_multiple_of_the_stride(shape, grid):
    assert GeneratorConfig(image_shape=shape, class_count=2).grid == grid


@pytest.mark.parametrize(
    "change",
    [
        {"image_shape": (2, 28, 28)},
        {"image_shape": (1, 0, 28)},
        {"image_shape": (1, 28, 5000)},
        {"image_shape": (28, 28)},
        {"class_count": 0},
        {"latent_dim": 0},
        {"width": 10**9},
        {"likelihood": "poisson"},
        {"depth": 3},
    ],
)
def test_unusable_configurations_are_refused(change):
    with pytest.raises(ValidationError):
        GeneratorConfig(**(MNIST | change))


@pytest.mark.parametrize("module", ["config", "header", "training_options"])
def test_imports_no_torch(module):
    code = f"import sys, datagen.model.{module}; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert answer.stdout.strip() == "False"


@pytest.mark.parametrize("changes", [{}, {"levels": 2, "stride": 1}])
def test_detail_needs_levels_and_a_stride_that_has_a_half(changes):
    changes = {"detail_width": 8} | changes
    with pytest.raises(ValidationError, match="detail_width"):
        GeneratorConfig(image_shape=(1, 8, 8), class_count=2, **changes)


@pytest.mark.parametrize("taps", [2, 4, 16, 33 * 33])
def test_kernel_of_grain_is_a_square_of_an_odd_side(taps):
    with pytest.raises(ValidationError, match="grain_kernel"):
        GeneratorConfig(image_shape=(1, 8, 8), class_count=2, grain_kernel=(0.1,) * taps)
