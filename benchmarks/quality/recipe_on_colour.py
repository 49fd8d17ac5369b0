"""The recommended recipe on two colour sets: `datagen train --time-budget 10m`, `datagen generate`.

    python -m benchmarks.quality.recipe_on_colour [--budget 10m] [--sets shapes things]

Each set is registered, trained on and drawn from by the project's own commands, in a state folder
of its own. The judge's agreement with what was asked for is set against its accuracy on test images
that it has not seen; beside it stands what a small CNN learns from the synthetic images alone, and
from the real ones. Logistic regression on pixels tells that colour alone gives no class away.

Prints a table, writes `benchmarks/results/quality-colour.json`, and as its last line prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.commands import datagen
from benchmarks.machine import machine
from benchmarks.quality import colour
from benchmarks.quality.classifiers import tested
from benchmarks.quality.generator import CPU
from benchmarks.quality.results import RESULTS, commit
from datagen.images import LabelledImages, contact_sheet, decode_pngs
from datagen.quality.learning import Learning, Part

PICTURES = RESULTS.parents[1] / "docs" / "images"
PER_CLASS = 1000
LEARNING = Learning(steps=2000)
TARGET = 0.95


def generated(home: Path, out: Path, names: list[str], *options: str) -> tuple[Any, LabelledImages]:
    """A job as `datagen generate` makes it, and its images."""
    job = datagen(
        home, "generate", "--model", "colour", "--per-label", str(PER_CLASS), "--seed", "1",
        "--out", str(out), *options,
    )  # fmt: skip
    tables = [pq.read_table(path) for path in sorted((out / "data").glob("train-*.parquet"))]
    files = [row["bytes"] for table in tables for row in table["image"].to_pylist()]
    labels = np.concatenate([table["label"].to_numpy() for table in tables]).astype(np.int64)
    return job, LabelledImages(decode_pngs(files), labels, tuple(names))


def agreement(job: Any) -> float:
    """Mean over the labels of the share that the model's judge agrees with.

    A label of which nothing was stored counts as one that it never agrees with.
    """
    return float(np.mean([label["agreement"] or 0.0 for label in job["labels"]]))


def run(which: str, budget: str, folder: Path) -> dict[str, Any]:
    """All figures of one set."""
    train, labels, names = colour.made(which, PER_CLASS, 0)
    test, test_labels, _ = colour.made(which, PER_CLASS // 2, 1)
    real = LabelledImages(train, labels, tuple(names))
    held_out = LabelledImages(test, test_labels, tuple(names))
    source, home = folder / "set.npz", folder / "home"
    np.savez(
        source,
        x_train=train.transpose(0, 2, 3, 1),
        y_train=labels,
        x_test=test.transpose(0, 2, 3, 1),
        y_test=test_labels,
        class_names=np.array(names),
    )
    datagen(home, "dataset", "add", "colour", str(source))
    began = time.monotonic()
    model = datagen(home, "train", "colour", "--dataset", "colour", "--time-budget", budget)
    seconds = time.monotonic() - began
    plain, _ = generated(home, folder / "plain", names, "--no-gate")
    job, made = generated(home, folder / "made", names)
    rows = [made.images[made.labels == label][:12] for label in range(len(names))]
    (PICTURES / f"colour-{which}.png").write_bytes(contact_sheet(rows, names, scale=1))

    def learnt(kind: str, images: LabelledImages) -> float:
        return tested(
            kind, [Part(images.images, images.labels)], LEARNING, 0, held_out, CPU
        ).accuracy

    metrics = model["metrics"]
    return {
        "set": which,
        "image_shape": list(real.image_shape),
        "images": len(real),
        "train_seconds": round(seconds, 1),
        "logistic_on_pixels": learnt("logistic", real),
        "judge_on_real": metrics["judge_test_accuracy"],
        "agreement": agreement(job),
        "agreement_without_gate": agreement(plain),
        "agreement_by_sampler": metrics["judge_agreement_by_sampler"],
        "copy_rate_by_sampler": metrics["copy_rate_by_sampler"],
        "sampler": job["sampler"],
        "images_short": job["images_short"],
        "tstr": learnt("small_cnn", made),
        "trtr": learnt("small_cnn", real),
        "options": model["options"],
        "config": model["config"],
        "commit": commit(),
    }


def table(found: list[dict[str, Any]]) -> list[str]:
    """The figures as lines of Markdown."""
    heads = (
        "set", "logistic regression on pixels", "judge on real", "agreement, no gate",
        "as generated", f"both ÷ judge on real (target ≥ {TARGET})", "small CNN from synthetic",
        "from real",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    lines += [
        f"| {one['set']}, {one['image_shape'][1]} x {one['image_shape'][2]} "
        f"| {one['logistic_on_pixels']:.1%} | {one['judge_on_real']:.1%} "
        f"| {one['agreement_without_gate']:.1%} | {one['agreement']:.1%} "
        f"| {one['agreement_without_gate'] / one['judge_on_real']:.3f}, "
        f"{one['agreement'] / one['judge_on_real']:.3f} | {one['tstr']:.1%} | {one['trtr']:.1%} |"
        for one in found
    ]
    return lines


def main() -> None:
    """Run the sets one after the other."""
    parser = argparse.ArgumentParser(description="The recommended recipe on colour sets.")
    parser.add_argument("--budget", default="10m", help="As for datagen train.")
    parser.add_argument(
        "--sets", nargs="+", choices=sorted(colour.SETS), default=sorted(colour.SETS)
    )
    given = parser.parse_args()
    found = []
    for which in given.sets:
        with tempfile.TemporaryDirectory(prefix="datagen-colour-") as folder:
            found.append(run(which, given.budget, Path(folder)))
    path = RESULTS / "quality-colour.json"
    kept = json.loads(path.read_text())["sets"] if path.exists() else []
    found = [*(one for one in kept if one["set"] not in given.sets), *found]
    document = {"budget": given.budget, "machine": machine(os.cpu_count() or 1), "sets": found}
    path.write_text(json.dumps(document, indent=1) + "\n")
    print("\n".join(table(found)))
    print(json.dumps(document))


if __name__ == "__main__":
    main()
