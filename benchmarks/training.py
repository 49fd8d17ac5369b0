"""Training: images per second and the bound reached, against Pythae's trainer, in one run.

*Images per second*: Pythae's trainer on its own networks for MNIST with its own batch size, and
ours on the very same networks and batch size, on networks of ours with as many weights, and on
networks of ours with as many multiplications an image. They take turns, round by round.
*The bound*: Pythae's trainer with its defaults for so many seconds; then the `small` preset, as a
VAE too, for a tenth of them. Both are measured by the same function on the same 10,000 images that
neither was trained on.

    pip install --no-deps pythae==0.1.2
    python benchmarks/training.py MNIST_DIR [--rounds 3] [--seconds 600]
    python benchmarks/training.py MNIST_DIR --curve 600

With `--curve` nothing is compared: the `base` preset trains for so many seconds, and the bound on
the 10,000 test images is measured after every epoch; the validation images decide nothing there.

Prints a table with the targets, and as its last line one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from datagen.datasets.opening import open_dataset
from datagen.datasets.reading import ReadOptions
from datagen.model.autoencoders import VAE, make_generator
from datagen.model.config import GeneratorConfig
from datagen.model.data import TrainingData
from datagen.model.devices import kind_of, resolve_device
from datagen.model.fit import Fit, held_out_elbo
from datagen.model.networks import count_parameters
from datagen.model.shapes import generator_forms, size_of
from datagen.model.state import TrainingState
from datagen.model.training import Watch, run_stage
from datagen.model.training_options import PRESETS, TrainingOptions

TRAINED_ON = 50_000
LATENT = 16
STEPS_A_ROUND = 12
WARM_UP_STEPS = 3
TENTH = 10
TARGETS = {"ratio_same_network": (3.0, "at least"), "bound_gap": (0.0, "at most")}
CURVE_TARGETS = {"test_negative_elbo": (92.0, "at most")}
SHAPE = (1, 28, 28)
CPU = resolve_device("cpu")


class Enough(Exception):
    """The time is over."""


# --- the same networks in both trainers --------------------------------------------------------


class TheirEncoder(nn.Module):
    """Pythae's encoder, answering as ours does."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) to mean and logvar, (B, d) each."""
        del label
        answer = self.encoder(image)
        return answer.embedding, answer.log_covariance


class TheirDecoder(nn.Module):
    """Pythae's decoder, answering as ours does: logits, and no label is looked at."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        self.decoder.layers[-1][-1] = nn.Identity()  # type: ignore[index,operator,union-attr]  # its sigmoid

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        """Latents (B, d) to logits, (B, C, H, W)."""
        del label
        answer: Tensor = self.decoder(latent).reconstruction
        return answer


def their_model() -> Any:
    """Pythae's VAE for MNIST, as its benchmark has it, with the likelihood that we compare by."""
    from pythae.models import VAE as TheirVAE  # noqa: PLC0415, N811 - for this benchmark alone
    from pythae.models import VAEConfig  # noqa: PLC0415
    from pythae.models.nn.benchmarks.mnist import (  # noqa: PLC0415
        Decoder_Conv_AE_MNIST,
        Encoder_Conv_VAE_MNIST,
    )

    config = VAEConfig(input_dim=SHAPE, latent_dim=LATENT, reconstruction_loss="bce")
    return TheirVAE(
        config, encoder=Encoder_Conv_VAE_MNIST(config), decoder=Decoder_Conv_AE_MNIST(config)
    )


def in_our_words(model: Any) -> VAE:
    """The networks of a model of theirs, as a VAE of ours."""
    ours = VAE(_config("vae", width=8, encoder_width=8))
    ours.encoder = TheirEncoder(model.encoder)  # type: ignore[assignment]
    ours.decoder = TheirDecoder(model.decoder)  # type: ignore[assignment]
    return ours


def _config(family: str, **sizes: int) -> GeneratorConfig:
    return GeneratorConfig.model_validate(
        {"family": family, "image_shape": SHAPE, "class_count": 10, "latent_dim": LATENT, **sizes}
    )


def multiplications(model: VAE) -> int:
    """Multiplications that one image takes, there and back."""
    model.eval()
    image, label = torch.zeros(1, *SHAPE), torch.zeros(1, dtype=torch.int64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image, label, torch.zeros(1, LATENT))
    return counter.get_total_flops() // 2


def with_as_many(count: Callable[[GeneratorConfig], int], wanted: int, **sizes: int) -> VAE:
    """Networks of ours whose width makes a count come nearest to what is wanted."""
    low, high = 1, 256
    while low < high:
        middle = (low + high) // 2
        width = 8 * middle
        if count(_config("vae", width=width, encoder_width=width, **sizes)) < wanted:
            low = middle + 1
        else:
            high = middle
    return _generator(_config("vae", width=8 * low, encoder_width=8 * low, **sizes))


# --- the trainers ------------------------------------------------------------------------------


def their_training(
    model: Any, data: TrainingData, folder: Path, on_step: Callable[[], None]
) -> None:
    """Pythae's trainer with its defaults, until `on_step` raises."""
    from pythae.data.datasets import BaseDataset  # noqa: PLC0415
    from pythae.trainers import BaseTrainer, BaseTrainerConfig  # noqa: PLC0415
    from pythae.trainers.training_callbacks import TrainingCallback  # noqa: PLC0415

    class Told(TrainingCallback):  # type: ignore[misc]  # it has no types
        def on_train_step_end(self, _config: Any, **_others: Any) -> None:
            on_step()

    images = data.images.float() / 255.0
    trainer = BaseTrainer(
        model=model,
        train_dataset=BaseDataset(images, data.labels),
        training_config=BaseTrainerConfig(output_dir=str(folder), no_cuda=True),
        callbacks=[Told()],
    )
    try:
        trainer.train()
    except Enough:
        return


def their_rate(data: TrainingData, batch: int) -> float:
    """Images per second of Pythae's trainer, once it has warmed up."""
    times: list[float] = []

    def count() -> None:
        times.append(time.perf_counter())
        if len(times) > WARM_UP_STEPS + STEPS_A_ROUND:
            raise Enough

    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as folder:
        their_training(their_model(), data, Path(folder), count)
    return STEPS_A_ROUND * batch / (times[-1] - times[WARM_UP_STEPS])


def our_rate(model: VAE, data: TrainingData, batch: int) -> float:
    """Images per second of our trainer, once it has warmed up."""
    options = TrainingOptions(family="vae", latent_dim=LATENT, batch_size=batch, epochs=1)
    nothing = data.subset(torch.arange(0))
    fit = Fit(model.to(memory_format=torch.channels_last), data, nothing, options)
    for number in range(WARM_UP_STEPS):
        fit.step(number)
    began = time.perf_counter()
    for number in range(STEPS_A_ROUND):
        fit.step(WARM_UP_STEPS + number)
    return STEPS_A_ROUND * batch / (time.perf_counter() - began)


def rates(data: TrainingData, rounds: int) -> dict[str, Any]:
    """Images per second of each trainer, by turns; medians."""
    from pythae.trainers import BaseTrainerConfig  # noqa: PLC0415

    batch = int(BaseTrainerConfig().per_device_train_batch_size)
    theirs = their_model()
    weights, work = count_parameters(theirs), multiplications(in_our_words(theirs))
    networks: dict[str, Callable[[], VAE]] = {
        "same_network": lambda: in_our_words(their_model()),
        # A position of theirs stands for 8 pixels a side where most of the weights are.
        "same_weights": lambda: with_as_many(
            lambda config: size_of(generator_forms(config)) // 4, weights, stride=8
        ),
        "same_work": lambda: with_as_many(lambda config: multiplications(_generator(config)), work),
    }
    found: dict[str, list[float]] = {"pythae": [], **{name: [] for name in networks}}
    for number in range(rounds):
        found["pythae"].append(their_rate(data, batch))
        for name, make in networks.items():
            found[name].append(our_rate(make(), data, batch))
        _say(f"round {number + 1}: " + ", ".join(f"{k} {v[-1]:,.0f}/s" for k, v in found.items()))
    median = {name: statistics.median(values) for name, values in found.items()}
    sizes = {name: make() for name, make in networks.items()}
    return {
        "batch_size": batch,
        "weights": {name: count_parameters(model) for name, model in sizes.items()},
        "multiplications": {name: multiplications(model) for name, model in sizes.items()},
        "images_per_second": {name: round(value, 1) for name, value in median.items()},
        **{f"ratio_{name}": round(median[name] / median["pythae"], 2) for name in networks},
    }


def _generator(config: GeneratorConfig) -> VAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = make_generator(config)
    assert isinstance(made, VAE)  # noqa: S101 - for the type checker
    return made.to(memory_format=torch.channels_last)


# --- the bound ---------------------------------------------------------------------------------


def their_bound(data: TrainingData, held_out: TrainingData, seconds: float) -> dict[str, float]:
    """The bound after so many seconds of Pythae's trainer."""
    model = their_model()
    began = time.perf_counter()
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1
        if time.perf_counter() - began > seconds:
            raise Enough

    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as folder:
        their_training(model, data, Path(folder), count)
    spent = time.perf_counter() - began
    total = held_out_elbo(in_our_words(model), held_out, seed=0)["total"]
    return {"seconds": round(spent, 1), "steps": steps, "negative_elbo": round(total, 2)}


def our_fit(
    preset: str, family: str, data: TrainingData, seconds: float, held_out: TrainingData
) -> tuple[Fit, float]:
    """A fit whose schedule ends after about so many seconds, and what a step takes."""
    given: dict[str, Any] = {"family": family, "latent_dim": LATENT, "average": 0.999}
    options = TrainingOptions.model_validate(given | {"epochs": 1} | PRESETS[preset])
    names = ("latent_dim", "width", "encoder_width", "blocks", "encoder_blocks")
    config = _config(family, **{name: getattr(options, name) for name in names})
    tried = Fit(_generator(config), data, data.subset(torch.arange(0)), options)
    for number in range(WARM_UP_STEPS):
        tried.step(number)
    began = time.perf_counter()
    for number in range(STEPS_A_ROUND):
        tried.step(WARM_UP_STEPS + number)
    step = (time.perf_counter() - began) / STEPS_A_ROUND
    fit = Fit(_generator(config), data, held_out, options)
    # The schedule is over the steps, whole epochs or not.
    fit.steps = max(1, int(seconds / step))
    return fit, step


def our_bound(
    data: TrainingData, held_out: TrainingData, seconds: float, family: str
) -> dict[str, Any]:
    """The bound after so many seconds of the `small` preset."""
    fit, _ = our_fit("small", family, data, seconds, data.subset(torch.arange(0)))
    began = time.perf_counter()
    done = 0
    while done < fit.steps and time.perf_counter() - began < seconds:
        fit.step(done)
        done += 1
    spent = time.perf_counter() - began
    total = held_out_elbo(fit.kept, held_out, seed=0)["total"]
    return {"seconds": round(spent, 1), "steps": done, "negative_elbo": round(total, 2)}


def curve(data: TrainingData, test: TrainingData, seconds: float) -> dict[str, Any]:
    """The bound on the test images over the time of the `base` preset, as a CVAE."""
    points: list[tuple[float, float]] = []
    # Looks at the test images take time too, a tenth of a step's worth of it.
    fit, _ = our_fit("base", "cvae", data, 0.85 * seconds, test)
    began = time.perf_counter()

    def told(progress: dict[str, Any]) -> None:
        if "validation_total" in progress and progress["step"] % fit.steps_per_epoch == 0:
            point = (time.perf_counter() - began, progress["validation_total"])
            points.append((round(point[0], 1), round(point[1], 2)))
            _say(f"{point[0]:6.0f} s  {point[1]:.2f} nats")

    run_stage(fit, TrainingState(), Watch(on_progress=told))
    spent = time.perf_counter() - began
    found = held_out_elbo(fit.kept, test, seed=0)
    return {
        "seconds": round(spent, 1),
        "epochs": round(fit.steps / fit.steps_per_epoch, 1),
        "weights": count_parameters(fit.kept),
        "test_negative_elbo": round(found["total"], 2),
        "test_reconstruction": round(found["reconstruction"], 2),
        "test_kl": round(found["kl"], 2),
        "curve": points,
    }


# --- telling -----------------------------------------------------------------------------------


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def table(rows: dict[str, Any], targets: dict[str, tuple[float, str]]) -> None:
    """What was measured, beside its targets."""
    for name, value in rows.items():
        if not isinstance(value, int | float):
            continue
        wanted, sense = targets.get(name, (math.nan, ""))
        met = "" if not sense else ("met" if _met(value, wanted, sense) else "NOT met")
        target = "" if not sense else f"{sense} {wanted:g}"
        print(f"{name:28s} {value:>14,.2f}  {target:14s} {met}")


def _met(value: float, wanted: float, sense: str) -> bool:
    return value >= wanted if sense == "at least" else value <= wanted


def main() -> None:
    """Measure, print the table, and the JSON as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("mnist", type=Path, help="folder with MNIST's IDX files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--curve", type=float, default=0.0, metavar="SECONDS")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as scratch:
        splits = open_dataset(asked.mnist, ReadOptions(), Path(scratch)).splits
    whole = TrainingData.on(CPU, splits["train"].images, splits["train"].labels)
    data = whole.subset(torch.arange(TRAINED_ON))
    validation = whole.subset(torch.arange(TRAINED_ON, len(whole)))
    found: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "device": kind_of(CPU),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if asked.curve:
        test = TrainingData.on(CPU, splits["test"].images, splits["test"].labels)
        found |= curve(data, test, asked.curve)
        table(found, CURVE_TARGETS)
    else:
        # Their data set must lie in memory as floats; a part of it is enough to measure its speed.
        part = TrainingData(whole.images[:TRAINED_ON], whole.labels[:TRAINED_ON])
        found |= rates(part, asked.rounds)
        found["pythae_bound"] = their_bound(part, validation, asked.seconds)
        _say(f"pythae: {found['pythae_bound']}")
        for family in ("vae", "cvae"):
            bound = our_bound(data, validation, asked.seconds / TENTH, family)
            found[f"small_{family}_bound"] = bound
            _say(f"small, {family}: {bound}")
        theirs = found["pythae_bound"]["negative_elbo"]
        found["bound_gap"] = round(found["small_vae_bound"]["negative_elbo"] - theirs, 2)
        table(found, TARGETS)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
