"""Images that no network was laid out for, in a minute of training each, by the commands alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import Datagen
from PIL import Image

BUDGET = "60s"
# Import of torch, a machine that others use, and the least steps that a training takes.
LIMIT_SECONDS = 900.0
GENERATED_PER_LABEL = 4


def striped(shape: tuple[int, ...], label: int, random: np.random.Generator) -> np.ndarray:
    """Stripes whose direction tells the label, under noise: height, width and perhaps channels."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] / max(shape[0], shape[1])
    angle = label * 2.4
    along = rows * math.cos(angle) + columns * math.sin(angle)
    values = 128 + 80 * np.sin(2 * math.pi * (3 * along + random.random()))
    noisy = values.reshape(values.shape + (1,) * (len(shape) - 2)) + random.normal(0, 8, shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def grey_or_colour(shape: tuple[int, ...], label: int, random: np.random.Generator) -> np.ndarray:
    """Every other picture in colour."""
    return striped((*shape, 3) if random.random() < 0.5 else shape, label, random)


def of_one_value(shape: tuple[int, ...], label: int, _: np.random.Generator) -> np.ndarray:
    """The same grey everywhere, another for each label."""
    return np.full(shape, 60 * label, np.uint8)


SETS: dict[str, tuple[tuple[int, ...], int, int, Callable[..., np.ndarray]]] = {
    "side of 8": ((8, 8), 3, 60, striped),
    "sides of 13 and 37": ((13, 37), 3, 60, striped),
    "sides of 251 and 253 in colour": ((251, 253, 3), 2, 20, striped),
    "side of 256": ((256, 256), 2, 20, striped),
    "one class": ((45, 45), 1, 80, striped),
    "two images a class": ((64, 64, 3), 5, 2, striped),
    "500 classes": ((28, 28), 500, 4, striped),
    "500 classes of pictures in colour": ((64, 64, 3), 500, 3, striped),
    "one value": ((40, 40), 3, 20, of_one_value),
    "one value, and one class": ((40, 40), 1, 20, of_one_value),
    "grey beside colour": ((48, 48), 3, 40, grey_or_colour),
}


def write(
    folder: Path,
    shape: tuple[int, ...],
    classes: int,
    count: int,
    content: Callable[..., np.ndarray],
) -> None:
    """Class folders of PNG files."""
    random = np.random.default_rng(0)
    for label in range(classes):
        of_class = folder / f"class-{label:03d}"
        of_class.mkdir(parents=True)
        for number in range(count):
            Image.fromarray(content(shape, label, random)).save(of_class / f"{number}.png")


@pytest.mark.parametrize("name", SETS)
def test_a_minute_of_training_gives_a_model_that_generates(name: str, tmp_path: Path) -> None:
    shape, classes, count, content = SETS[name]
    write(tmp_path / "images", shape, classes, count, content)
    environment = {"DATAGEN_HOME": str(tmp_path / "home")}

    def command(*arguments: str) -> None:
        ran = Datagen().run(*arguments, environment=environment, seconds=LIMIT_SECONDS)
        assert ran.code == 0, ran.err

    command("dataset", "add", "unusual", str(tmp_path / "images"))
    command("train", "unusual", "--dataset", "unusual", "--time-budget", BUDGET)
    command(
        "generate", "--model", "unusual", "--labels", f"class-000={GENERATED_PER_LABEL}",
        "--no-gate", "--format", "imagefolder", "--out", str(tmp_path / "generated"),
    )  # fmt: skip

    pictures = sorted((tmp_path / "generated").rglob("*.png"))
    assert len(pictures) >= GENERATED_PER_LABEL
    with Image.open(next(path for path in pictures if "class-000" in str(path))) as picture:
        assert (picture.height, picture.width) == shape[:2]
