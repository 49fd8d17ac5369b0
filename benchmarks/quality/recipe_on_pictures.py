"""The recommended recipe on pictures: `datagen train --time-budget 10m`, `datagen generate`.

    python -m benchmarks.quality.recipe_on_pictures [--budget 10m] [--sets shapes things grey]
        [--fashion /usr/share/datasets/fashion-mnist] [--seed 0] [--preset small]
        [--classifiers 3]

On a GPU, within ten minutes: --budget 2m --sets things fashion

Four sets: *shapes* (32 x 32) and *things* (64 x 64) in colour, of our own making; *grey*, four
kinds of *things* with noise, 1,136 to 83 of each; and *fashion*, Fashion-MNIST as Debian packages
it (`dataset-fashion-mnist`), read from `--fashion`. Each is registered, trained on and drawn from
by the project's own commands, in a state folder of its own. What a CNN learns from the generated
images alone is set beside what it learns from the real ones (TSTR); 60,000 images and ten epochs of
the protocol's CNN for *fashion*, 1,000 of each class and 2,000 steps of a small CNN for the others.
What classifiers of other seeds learn from the same soft images differs by points, so TSTR is the
mean of `--classifiers` of them.
Fréchet distance and coverage are of the features of a network that learnt from the real images, as
the report on a job has them, with the same figures of real training images beside them.

Prints a table, writes `benchmarks/results/quality-pictures.json` and contact sheets with real
images above generated ones, and as its last line prints JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.commands import datagen
from benchmarks.machine import machine
from benchmarks.quality import colour
from benchmarks.quality.classifiers import tested
from benchmarks.quality.paired import mean
from benchmarks.quality.results import RESULTS, commit
from datagen.images import LabelledImages, contact_sheet, decode_pngs
from datagen.model.config import TRAINING_COUNTS, JudgeConfig
from datagen.model.devices import resolve_device
from datagen.quality.distance import frechet_distance
from datagen.quality.evaluator import EVALUATOR_SEED
from datagen.quality.features import Features
from datagen.quality.judge import Judge
from datagen.quality.learning import Learning, Part, learn
from datagen.quality.prdc import prdc
from datagen.settings import load_settings

PICTURES = RESULTS.parents[1] / "docs" / "images"
PER_CLASS = 1000
SHOWN = 12
# Images on each side of a distance, and steps of the network whose features it is measured in.
COMPARED, FEATURE_STEPS = 2000, 600
BUDGET = "10m"
SETS = ("shapes", "things", "grey", "fashion")
# Of *grey*: kinds of *things*, how many of each there are, and the noise of a camera.
GREY = {"house": 1136, "tree": 500, "umbrella": 249, "car": 83}
LUMINANCE = (0.299, 0.587, 0.114)
NOISE = 6.0
FASHION = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot"
)  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """How much is generated, and what learns from it."""

    per_class: int
    classifier: str
    learning: Learning


SMALL = Protocol(PER_CLASS, "small_cnn", Learning(steps=2000))
# Ten epochs of 60,000 images.
PUBLISHED = Protocol(6000, "cnn", Learning(steps=4690))


def real_images(which: str, fashion: Path) -> tuple[LabelledImages, LabelledImages]:
    """The images of a set to train on and to test on."""
    if which == "fashion":
        return _fashion(fashion, "train"), _fashion(fashion, "t10k")
    if which == "grey":
        return _grey(dict(GREY), 3), _grey(dict.fromkeys(GREY, 200), 4)
    return _made(which, PER_CLASS, 0), _made(which, PER_CLASS // 2, 1)


def _made(which: str, per_class: int, seed: int) -> LabelledImages:
    images, labels, names = colour.made(which, per_class, seed)
    return LabelledImages(images, labels, tuple(names))


def _grey(counts: dict[str, int], seed: int) -> LabelledImages:
    images, labels, names = colour.made("things", max(counts.values()), seed)
    rows = [
        np.flatnonzero(labels == list(names).index(name))[:count] for name, count in counts.items()
    ]
    grey = (images[np.concatenate(rows)] * np.reshape(LUMINANCE, (1, 3, 1, 1))).sum(
        1, keepdims=True
    )
    grey += np.random.default_rng(seed).normal(0.0, NOISE, grey.shape)
    own = np.repeat(np.arange(len(counts)), list(counts.values()))
    return LabelledImages(grey.clip(0, 255).astype(np.uint8), own, tuple(counts))


def _fashion(folder: Path, split: str) -> LabelledImages:
    def values(kind: str, header: int) -> np.ndarray:
        data = gzip.decompress((folder / f"{split}-{kind}-ubyte.gz").read_bytes())
        return np.frombuffer(data, dtype=np.uint8, offset=header)

    images = values("images-idx3", 16).reshape(-1, 1, 28, 28)
    return LabelledImages(images, values("labels-idx1", 8).astype(np.int64), FASHION)


def generated(
    home: Path, out: Path, names: tuple[str, ...], per_class: int, *options: str
) -> tuple[Any, LabelledImages]:
    """A job as `datagen generate` makes it, and its images."""
    job = datagen(
        home, "generate", "--model", "pictures", "--per-label", str(per_class), "--seed", "1",
        "--out", str(out), *options,
    )  # fmt: skip
    tables = [pq.read_table(path) for path in sorted((out / "data").glob("train-*.parquet"))]
    files = [row["bytes"] for table in tables for row in table["image"].to_pylist()]
    labels = np.concatenate([table["label"].to_numpy() for table in tables]).astype(np.int64)
    return job, LabelledImages(decode_pngs(files), labels, names)


def agreement(job: Any) -> float:
    """Mean over the labels of the share that the model's judge agrees with.

    A label of which nothing was stored counts as one that it never agrees with.
    """
    return float(np.mean([label["agreement"] or 0.0 for label in job["labels"]]))


def distances(
    real: LabelledImages, held_out: LabelledImages, made: LabelledImages, device: torch.device
) -> dict[str, float]:
    """Fréchet distance and coverage of generated images, and of training images, to held-out ones.

    As many images on every side, in the features of a network that learnt from the training images.
    """
    network = Judge(JudgeConfig(image_shape=real.image_shape, class_count=len(real.class_names)))
    part = Part(real.images, real.labels, balanced=True)
    learn(network, [part], Learning(steps=FEATURE_STEPS), seed=EVALUATOR_SEED, device=device)
    features = Features.of(network, real.images[_spread(real, COMPARED)], device)
    counts = np.bincount(held_out.labels, minlength=len(real.class_names))
    count = min(COMPARED, len(held_out), len(made))

    def points(images: LabelledImages) -> np.ndarray:
        # Classes in the proportion of the held-out images, on every side.
        share = (counts * count // counts.sum()).tolist()
        rows = []
        for label, wanted in enumerate(share):
            there = np.flatnonzero(images.labels == label)
            # A class of which nothing was stored is missing here too.
            rows.append(np.resize(there, wanted) if len(there) else there)
        return features(images.images[np.concatenate(rows)])

    known, own, ours = points(held_out), points(real), points(made)
    return {
        "frechet": frechet_distance(ours, known),
        "frechet_of_real": frechet_distance(own, known),
        "coverage": prdc(known, ours).coverage,
        "coverage_of_real": prdc(known, own).coverage,
    }


def _spread(images: LabelledImages, count: int) -> np.ndarray:
    return np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64)


def images_per_second(job: Any) -> float:
    """Images that were stored a second, from the start of the job to its end."""
    began, ended = (datetime.fromisoformat(job[name]) for name in ("started_at", "ended_at"))
    return float(job["images_stored"] / max(1e-3, (ended - began).total_seconds()))


def run(which: str, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures of one set."""
    seed, fashion, device = given.seed, given.fashion, resolve_device(load_settings().device)
    real, held_out = real_images(which, fashion)
    names = real.class_names
    protocol = PUBLISHED if which == "fashion" else SMALL
    source, home = folder / "set.npz", folder / "home"
    np.savez(
        source,
        x_train=real.images.transpose(0, 2, 3, 1),
        y_train=real.labels,
        x_test=held_out.images.transpose(0, 2, 3, 1),
        y_test=held_out.labels,
        class_names=np.array(names),
    )
    datagen(home, "dataset", "add", "pictures", str(source))
    began = time.monotonic()
    model = datagen(
        home, "train", "pictures", "--dataset", "pictures", "--time-budget", given.budget,
        "--seed", str(seed), *(["--preset", given.preset] if given.preset else []),
    )  # fmt: skip
    seconds = time.monotonic() - began
    plain, _ = generated(home, folder / "plain", names, PER_CLASS, "--no-gate")
    job, made = generated(home, folder / "made", names, protocol.per_class)
    ending = "" if given.budget == BUDGET else f"-{given.budget}"
    ending += f"-{given.preset}" if given.preset else ""
    _draw(PICTURES / f"pictures-{which}{ending}.png", real, made)

    def learnt(images: LabelledImages, seed: int) -> float:
        parts = [Part(images.images, images.labels)]
        learning = protocol.learning
        return tested(protocol.classifier, parts, learning, seed, held_out, device).accuracy

    found = [learnt(made, seed) for seed in range(given.classifiers)]

    metrics = model["metrics"]
    fitted = [one["epoch"] for one in metrics["history"] if one["stage"] == "fit"]
    batch = model["options"]["batch_size"]
    steps = len(fitted) * max(1, sum(metrics[TRAINING_COUNTS]) // batch)
    figures = {
        name: metrics[name]
        for name in (
            "judge_agreement_by_sampler", "copy_rate_by_sampler", "tstr_by_sampler", "trtr",
            "coverage", "coverage_of_real", "reconstruction_error", "recommended", "grain",
        )
    }  # fmt: skip
    return {
        "set": which,
        "seed": seed,
        "budget": given.budget,
        "preset": model["options"]["preset"] or "base",
        "device": device.type,
        "machine": machine(os.cpu_count() or 1, device),
        "image_shape": list(real.image_shape),
        "images": len(real),
        "train_seconds": round(seconds, 1),
        "fit_steps": steps,
        "judge_on_real": metrics["judge_test_accuracy"],
        "agreement": agreement(job),
        "agreement_without_gate": agreement(plain),
        "metrics": figures,
        "sampler": job["sampler"],
        "gate": job["gate"],
        "images_short": job["images_short"],
        "images_per_second": round(images_per_second(job), 1),
        "tstr": float(np.mean(found)),
        "tstr_per_classifier": found,
        "trtr": learnt(real, 0),
        "distances": distances(real, held_out, made, device),
        "chance": 1.0 / len(names),
        "options": model["options"],
        "config": model["config"],
        "commit": commit(),
    }


def _draw(path: Path, real: LabelledImages, made: LabelledImages) -> None:
    """For each class a row of real images, and a row of generated ones below it."""
    rows, names = [], []
    for label, name in enumerate(real.class_names):
        for images, words in ((real, name), (made, "generated")):
            rows.append(images.images[images.labels == label][:SHOWN])
            names.append(words)
    path.write_bytes(contact_sheet(rows, names, scale=1))


def table(found: list[dict[str, Any]]) -> list[str]:
    """The figures as lines of Markdown."""
    heads = (
        "set", "budget", "TSTR", "from real images", "of real, above chance", "sampler",
        "agreement, no gate", "judge on real", "Fréchet distance, of real", "coverage, of real",
        "images/s",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for one in found:
        share = (one["tstr"] - one["chance"]) / (one["trtr"] - one["chance"])
        apart = one["distances"]
        frechet = f"{apart['frechet']:.3f}, {apart['frechet_of_real']:.3f}"
        covered = f"{apart['coverage']:.2f}, {apart['coverage_of_real']:.2f}"
        lines.append(
            f"| {one['set']}, {one['image_shape'][1]} x {one['image_shape'][2]} "
            f"| {one['budget']} | {_tstr(one)} | {one['trtr']:.1%} | {share:.2f} "
            f"| `{one['sampler']}` "
            f"| {one['agreement_without_gate']:.1%} | {one['judge_on_real']:.1%} "
            f"| {frechet} | {covered} | {one['images_per_second']:,.0f} |"
        )
    return lines


def _tstr(measured: dict[str, Any]) -> str:
    """Mean and standard deviation over the classifiers, in points."""
    return mean(measured.get("tstr_per_classifier", [measured["tstr"]])) + " %"


def _which(measured: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(measured[name] for name in ("set", "seed", "budget", "preset", "device"))


def main() -> None:
    """Run the sets one after the other."""
    parser = argparse.ArgumentParser(description="The recommended recipe on pictures.")
    parser.add_argument("--budget", default=BUDGET, help="As for datagen train.")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--preset", help="Sizes of the networks; the recipe's if not given.")
    parser.add_argument("--seed", type=int, default=0, help="Of the training.")
    parser.add_argument("--classifiers", type=int, default=3, help="That learn from the images.")
    parser.add_argument(
        "--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"),
        help="The folder with the four files of Fashion-MNIST.",
    )  # fmt: skip
    given = parser.parse_args()
    if "fashion" in given.sets and not given.fashion.is_dir():
        parser.error(f"there is no folder {given.fashion}; give --fashion, or --sets without it")
    found = []
    for which in given.sets:
        with tempfile.TemporaryDirectory(prefix="datagen-pictures-") as folder:
            found.append(run(which, given, Path(folder)))
    path = RESULTS / "quality-pictures.json"
    kept = json.loads(path.read_text())["sets"] if path.exists() else []
    again = {_which(one) for one in found}
    found = [*(one for one in kept if _which(one) not in again), *found]
    document = {"sets": found}
    path.write_text(json.dumps(document, indent=1) + "\n")
    print("\n".join(table(found)))
    print(json.dumps(document))


if __name__ == "__main__":
    main()
