"""Draw the pictures of docs/objectives.md, and put the numbers into it.

    python scripts/make_docs_figures.py MNIST_DIR [--epochs 6]

Trains, on 50,000 images of MNIST and with the same networks throughout, a plain autoencoder, a VAE
and a CVAE; a CVAE without the KL and one without the reconstruction; and autoencoders and VAEs of
several latent lengths. All are measured on the 10,000 test images, by the judge that ships with
datagen and in its features.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from datagen import plots
from datagen.bundled import JUDGE
from datagen.datasets.opening import open_dataset
from datagen.datasets.reading import ReadOptions
from datagen.model.analysis import decoded, latent_space
from datagen.model.autoencoders import Autoencoder, make_generator
from datagen.model.config import GeneratorConfig
from datagen.model.data import TrainingData
from datagen.model.decoding import Decoder
from datagen.model.devices import resolve_device
from datagen.model.fit import Fit, held_out_elbo
from datagen.model.fitting import fit_density, fit_normals, posteriors
from datagen.model.priors import ClassPrior
from datagen.model.samplers import Sampling, draw_latents
from datagen.model.state import TrainingState
from datagen.model.training import Watch, run_stage
from datagen.model.training_options import TrainingOptions
from datagen.plots import Row, render
from datagen.quality.distance import frechet_distance
from datagen.quality.judge import load_judge

ROOT = Path(__file__).parent.parent
PAGE, IMAGES = ROOT / "docs" / "objectives.md", ROOT / "docs" / "images"
BEGIN, END = "<!-- made by `make docs-figures` -->", "<!-- end -->"
CPU = resolve_device("cpu")
LENGTHS = (2, 4, 8, 16, 32)
MADE = 10_000
SHOWN = 10
NOISE = 0.5
TRAINED_ON = 50_000


@dataclass(frozen=True)
class Data:
    """The images: 50,000 to train on, 10,000 that decide, 10,000 that measure."""

    train: TrainingData
    validation: TrainingData
    test: TrainingData


@dataclass(frozen=True)
class Trained:
    """A model, and its bound on the test images."""

    model: Autoencoder
    reconstruction: float
    kl: float


def trained(data: Data, epochs: int, **changes: object) -> Trained:
    """A generator after so many epochs; `changes` are options."""
    began = time.monotonic()
    options = TrainingOptions.model_validate({"epochs": epochs, "average": 0.99} | changes)
    config = GeneratorConfig(
        family=options.family, image_shape=(1, 28, 28), class_count=10,
        latent_dim=options.latent_dim,
    )  # fmt: skip
    torch.manual_seed(0)
    model = make_generator(config).to(memory_format=torch.channels_last)
    nothing = data.train.subset(torch.arange(0))
    fit = Fit(model, data.train, nothing, options)
    run_stage(fit, TrainingState(), Watch())
    found = held_out_elbo(fit.kept, data.test, seed=0)
    note(f"{changes}: {found['total']:.1f} nats, {time.monotonic() - began:.0f} s")
    return Trained(fit.kept.eval(), found["reconstruction"], found["kl"])


def note(text: str) -> None:
    """Say on standard error what was done."""
    sys.stderr.write(text + "\n")


# --- measuring ---------------------------------------------------------------------------------


@cache
def judge() -> torch.nn.Module:
    """The judge that ships with datagen."""
    return load_judge(JUDGE, CPU)[0]


@torch.inference_mode()
def looked_at(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, F) and judged labels (N,) of images uint8 (N, C, H, W)."""
    features, labels = [], []
    for start in range(0, len(images), 1000):
        pixels = torch.from_numpy(images[start : start + 1000]).float().div_(255.0)
        hidden = judge().hidden(pixels)  # type: ignore[operator]  # it is no plain module
        features.append(hidden.numpy())
        labels.append(judge().head(hidden).argmax(dim=1).numpy())  # type: ignore[operator]
    return np.concatenate(features), np.concatenate(labels)


def made(model: Autoencoder, sampler: str = "prior") -> tuple[np.ndarray, np.ndarray]:
    """Images drawn from the model, 1,000 of each label, and the labels."""
    labels = np.repeat(np.arange(10), MADE // 10)
    index = np.arange(MADE)
    drawn = draw_latents(model, Sampling(sampler), 1, index, np.zeros_like(index), labels)
    return decoded(Decoder(model, CPU), drawn.latents, labels), labels


def standard(model: Autoencoder) -> None:
    """Make N(0, I) the prior of a model."""
    model.prior = ClassPrior(model.config.prior_classes, 1, model.config.latent_dim)


def normals(model: Autoencoder, data: Data) -> None:
    """Make fitted normals the prior of a model."""
    fit_normals(model.prior, posteriors(model, data.train, 0))


def distance(model: Autoencoder, real: np.ndarray, sampler: str = "prior") -> float:
    """Fréchet distance of drawn to real images, in the judge's features."""
    return frechet_distance(looked_at(made(model, sampler)[0])[0], real)


def agreement(model: Autoencoder, sampler: str = "prior") -> float:
    """Share of drawn images that the judge gives the label that was asked for."""
    images, labels = made(model, sampler)
    return float((looked_at(images)[1] == labels).mean())


def shaken(model: Autoencoder, data: TrainingData) -> tuple[np.ndarray, float, float]:
    """What becomes of reconstructions when latents are moved a little.

    Each latent is moved by half of the standard deviation that its dimension has over all images.

    Returns:
        images (rows, SHOWN, C, H, W): originals, reconstructions, three that were moved; the mean
        squared change of pixels; the share that the judge still gives its label.
    """
    space = latent_space(model, data)
    decoder = Decoder(model, CPU)
    plain = decoded(decoder, space.means, space.labels)
    wide = space.means.std(axis=0)
    random = np.random.default_rng(0)
    moved = [
        decoded(
            decoder, space.means + NOISE * wide * random.standard_normal(space.means.shape),
            space.labels,
        )
        for _ in range(3)
    ]  # fmt: skip
    change = np.square((moved[0].astype(float) - plain) / 255.0).mean()
    right = float((looked_at(moved[0])[1] == space.labels).mean())
    chosen = [int(np.flatnonzero(space.labels == label)[0]) for label in range(SHOWN)]
    originals = data.pixels(torch.tensor(chosen))
    rows = np.stack([originals, plain[chosen], *(images[chosen] for images in moved)])
    return rows, float(change), right


# --- the parts of the page ---------------------------------------------------------------------


def families(data: Data, models: dict[str, Trained], real: np.ndarray, floor: float) -> list[str]:
    """Autoencoder, VAE and CVAE side by side: samples from N(0, I), and latents that are moved."""
    rows, sheet = [], []
    for name, found in models.items():
        standard(found.model)
        images, _ = made(found.model)
        far = frechet_distance(looked_at(images)[0], real)
        right = f"{agreement(found.model):.1%}" if name == "CVAE" else "-"
        shifted, change, still = shaken(found.model, data.test)
        rows.append(
            f"| {name} | {found.reconstruction:.1f} | {found.kl:.1f} | {far:.1f} | {right} | "
            f"{change:.4f} | {still:.1%} |"
        )
        step = MADE // SHOWN
        picked = images[::step][:SHOWN] if name == "CVAE" else images[:SHOWN]
        sheet += [Row(picked, f"{name}: drawn"), *_moved_rows(name, shifted)]
    save("objectives-families", plots.image_rows(sheet, "Drawn from N(0, I); and latents moved"))
    head = [
        (
            "| model | reconstruction | KL | distance of samples from N(0, I) | agreement with the "
            "label | change when moved | label survives the move |"
        ),
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    told = f"Real images against other real images are at a distance of {floor:.2f}."
    return [
        "![Samples and moved latents](images/objectives-families.png)",
        "\n".join(head + rows),
        told,
    ]


def _moved_rows(name: str, shifted: np.ndarray) -> list[Row]:
    return [
        Row(shifted[1], f"{name}: rebuilt"),
        Row(shifted[2], f"{name}: moved"),
        Row(shifted[3], f"{name}: moved"),
    ]


def switches(data: Data, models: dict[str, Trained], real: np.ndarray) -> list[str]:
    """What the two terms are for: each left out in turn."""
    rows, sheet = [], []
    chosen = torch.tensor(
        [int(np.flatnonzero(data.test.all_labels.numpy() == label)[0]) for label in range(SHOWN)]
    )
    labels = np.arange(SHOWN)
    for name, found in models.items():
        standard(found.model)
        images, _ = made(found.model)
        space = latent_space(found.model, data.test.subset(chosen))
        rebuilt = decoded(Decoder(found.model, CPU), space.means, labels)
        rows.append(
            f"| {name} | {found.reconstruction:.1f} | {found.kl:.1f} | "
            f"{frechet_distance(looked_at(images)[0], real):.1f} | {agreement(found.model):.1%} |"
        )
        sheet += [
            Row(rebuilt, f"{name}: rebuilt"),
            Row(images[:: MADE // SHOWN][:SHOWN], f"{name}: drawn"),
        ]
    originals = Row(data.test.pixels(chosen), "original")
    save("objectives-switches", plots.image_rows([originals, *sheet], "Each term left out in turn"))
    head = [
        "| objective | reconstruction | KL | distance of samples | agreement with the label |",
        "|---|---:|---:|---:|---:|",
    ]
    return ["![Each term left out](images/objectives-switches.png)", "\n".join(head + rows)]


def lengths(data: Data, found: dict[tuple[str, int], Trained], real: np.ndarray) -> list[str]:
    """Quality over the length of the latent, both families with the same networks."""
    rows = []
    far: dict[str, list[float]] = {"autoencoder": [], "vae": []}
    error: dict[str, list[float]] = {"autoencoder": [], "vae": []}
    for dims in LENGTHS:
        cells = [str(dims)]
        for family, own in far.items():
            one = found[family, dims]
            normals(one.model, data)
            own.append(distance(one.model, real))
            error[family].append(one.reconstruction)
            cells += [f"{one.reconstruction:.1f}", f"{own[-1]:.1f}"]
        rows.append("| " + " | ".join(cells) + " |")
    names = {"autoencoder": "autoencoder", "vae": "VAE"}
    panels = [
        ("reconstruction (nats an image)",
         {names[f]: (list(LENGTHS), error[f]) for f in names}),
        ("distance of samples", {names[f]: (list(LENGTHS), far[f]) for f in names}),
    ]  # fmt: skip
    title = "A longer latent rebuilds better; whether it can be drawn from is another matter"
    save("objectives-lengths", plots.lines(panels, title, "latent dimensions"))
    head = [
        (
            "| z | autoencoder: reconstruction | distance of samples | VAE: reconstruction | "
            "distance of samples |"
        ),
        "|---:|---:|---:|---:|---:|",
    ]
    return ["![Quality over latent length](images/objectives-lengths.png)", "\n".join(head + rows)]


def priors(data: Data, model: Autoencoder, real: np.ndarray) -> list[str]:
    """The same CVAE, drawn from three priors."""
    rows, sheet = [], []
    standard(model)
    for name in ("N(0, I)", "a normal a label", "a mixture a label"):
        sampler = "prior"
        if name == "a normal a label":
            normals(model, data)
        if name == "a mixture a label":
            sampler = "density"
            held_out = posteriors(model, data.validation, 0, are_held_out=True)
            fit_density(model, posteriors(model, data.train, 0), held_out, 0)
            name = f"{name} ({model.config.components} normals each)"  # noqa: PLW2901 - told with what was found
        rows.append(
            f"| {name} | {distance(model, real, sampler):.1f} | {agreement(model, sampler):.1%} |"
        )
        images, _ = made(model, sampler)
        sheet.append(Row(images[:: MADE // SHOWN][:SHOWN], name.partition(" (")[0]))
    save("objectives-priors", plots.image_rows(sheet, "One CVAE, three priors"))
    head = ["| drawn from | distance of samples | agreement with the label |", "|---|---:|---:|"]
    return ["![Three priors](images/objectives-priors.png)", "\n".join(head + rows)]


def save(name: str, figure: plots.Figure) -> None:
    """Write a picture of the page."""
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / f"{name}.png").write_bytes(render(figure, "png"))


def put_into_page(sections: Sequence[tuple[str, list[str]]]) -> None:
    """Replace what stands between the two marks of each section."""
    text = PAGE.read_text(encoding="utf-8")
    for name, parts in sections:
        begin = f"{BEGIN[:-4]}: {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(END)
        if not rest or not after:
            sys.exit(f"{PAGE.name} has no place marked {begin!r} … {END!r}.")
        text = before + begin + "\n\n" + "\n\n".join(parts) + "\n\n" + END + after
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    """Train, measure, draw, and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("mnist", type=Path, help="folder with MNIST's IDX files")
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="datagen-docs-") as scratch:
        splits = open_dataset(asked.mnist, ReadOptions(), Path(scratch)).splits
    whole = TrainingData.on(CPU, splits["train"].images, splits["train"].labels)
    rows = torch.arange(len(whole))
    test = TrainingData.on(CPU, splits["test"].images, splits["test"].labels)
    data = Data(whole.subset(rows[:TRAINED_ON]), whole.subset(rows[TRAINED_ON:]), test)
    real = looked_at(test.pixels(torch.arange(len(test))))[0]
    others = looked_at(whole.pixels(rows[:MADE]))[0]
    lengthy = {
        (family, dims): trained(data, asked.epochs, family=family, latent_dim=dims)
        for dims in LENGTHS
        for family in ("autoencoder", "vae")
    }
    cvae = trained(data, asked.epochs, family="cvae")
    own = {
        "plain autoencoder": lengthy["autoencoder", 16],
        "VAE": lengthy["vae", 16],
        "CVAE": cvae,
    }
    terms = {
        "both terms": cvae,
        "no KL": trained(data, asked.epochs, no_kl=True),
        "no reconstruction": trained(data, 1, no_reconstruction=True),
    }
    put_into_page(
        [
            ("families", families(data, own, real, frechet_distance(others, real))),
            ("switches", switches(data, terms, real)),
            ("lengths", lengths(data, lengthy, real)),
            ("priors", priors(data, cvae.model, real)),
        ]
    )


if __name__ == "__main__":
    main()
