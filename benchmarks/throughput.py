"""Images per second: a bare loop, the service, and a plain script, side by side in one run.

The *bare loop* makes the same images with the same parts (latents, decode, quantise, score, PNG)
in memory and stores nothing; the best of several arrangements of threads and processes counts.
The *service* is a job through the whole of it: submitted, until the last row and shard are stored.
The *plain script* is what one would write in an afternoon: decode in fp32, `save_image` into class
folders, zip them. Parts take turns, so that a machine that slows down slows all of them.

    python benchmarks/throughput.py [--images 100000] [--large 1000000] [--rounds 3]
    python benchmarks/throughput.py --pictures [--images 10000] [--rounds 3]

With `--pictures` the bare loop and the service generate *things*, 64 x 64 in colour, from the flow
of a model that is trained for a minute first: the networks are those of a longer training.

Prints a table with the targets, and as its last line one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from machine import machine

from datagen.bundled import JUDGE, MODEL
from datagen.client import Client
from datagen.embedded import EmbeddedStack
from datagen.errors import DatagenError
from datagen.settings import load_settings

CHUNK = 2048
CLASSES = 10
SMALL_SIZES = (1_000, 10_000)
SECONDS_PER_ARRANGEMENT = 4.0
TARGETS = {
    "ratio_to_bare": (0.80, "at least"),
    "ratio_to_plain": (4.0, "at least"),
    "cost_growth": (1.1, "at most"),
    "memory_growth": (1.1, "at most"),
    "first_image_s": (0.3, "at most"),
    "accept_10m_s": (0.1, "at most"),
    "judge_share": (1 / 3, "at most"),
    "gate_share": (1 / 3, "at most"),
}
TARGETS_OF_PICTURES = {
    "service": (300, "at least"),
    "ratio_to_bare": (0.95, "at least"),
    "memory_mb": (1200, "at most"),
}
TRAINING_SECONDS = 60.0
PICTURES_PER_CLASS = 200


@dataclass(frozen=True)
class Subject:
    """The model that generates: its name on the server, and its files for the bare loop."""

    name: str
    model: Path
    judge: Path


DIGITS = Subject("mnist", MODEL, JUDGE)


# --- the bare loop -----------------------------------------------------------------------------


def bare_rate(
    subject: Subject, threads: int, seconds: float, *, score: bool, start: Any = None
) -> float:
    """Images per second of one process that makes images and keeps none."""
    import torch  # noqa: PLC0415 - each process sets its own threads

    from datagen.images import encode_png  # noqa: PLC0415
    from datagen.model.checkpoint import load_generator  # noqa: PLC0415
    from datagen.model.decoding import Decoder  # noqa: PLC0415
    from datagen.model.devices import resolve_device  # noqa: PLC0415
    from datagen.model.grain import Grain, with_grain  # noqa: PLC0415
    from datagen.model.samplers import Sampling, draw_latents  # noqa: PLC0415
    from datagen.quality.judge import Scorer, load_judge  # noqa: PLC0415

    torch.set_num_threads(threads)
    device = resolve_device("cpu")
    model, _ = load_generator(subject.model, device)
    judge, _ = load_judge(subject.judge, device)
    grain, classes = Grain.of(model.config), model.config.class_count
    decoder, scorer = Decoder(model, device), Scorer(judge, device)

    def make(first: int) -> None:
        index = np.arange(first, first + CHUNK)
        labels, attempt, made = index % classes, np.zeros_like(index), 0
        drawn = draw_latents(model, Sampling(), 1, index, attempt, labels)
        for smooth in decoder.tiles(drawn.latents, labels):
            part = slice(made, made + len(smooth))
            images = with_grain(smooth, grain, 1, index[part], attempt[part])
            made += len(smooth)
            if score:
                scorer.score(images)
            encode_png(images)

    make(0)
    if start is not None:
        start.wait()
    began, made = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        make(made)
        made += CHUNK
    return made / (time.perf_counter() - began)


def _bare_process(
    subject: Subject,
    threads: int,
    seconds: float,
    score: bool,
    start: Any,
    answers: Any,
) -> None:
    answers.put(bare_rate(subject, threads, seconds, score=score, start=start))


def best_bare(
    cores: int, seconds: float, subject: Subject = DIGITS, *, score: bool
) -> tuple[float, str]:
    """The best of one process with 1 … cores threads, and of one process a core."""
    spawn = multiprocessing.get_context("spawn")
    found: list[tuple[float, str]] = []
    arrangements = [(1, threads) for threads in sorted({1, cores})]
    arrangements += [(cores, 1)] if cores > 1 else []
    for processes, threads in arrangements:
        start, answers = spawn.Barrier(processes), spawn.Queue()
        running = [
            spawn.Process(
                target=_bare_process,
                args=(subject, threads, seconds, score, start, answers),
            )
            for _ in range(processes)
        ]
        for process in running:
            process.start()
        rate = sum(answers.get(timeout=120) for _ in running)
        for process in running:
            process.join()
        found.append((rate, f"{processes} x {threads} threads"))
    return max(found)


# --- the plain script --------------------------------------------------------------------------


def plain_rate(images: int) -> float:
    """Images per second of the script that one would write in an afternoon."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import throughput; "
        "print(throughput.plain_script(int(sys.argv[2])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(images)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.split()[-1])


def plain_script(images: int) -> float:
    """Decode in fp32, save_image into class folders, zip; returns images per second."""
    import torch  # noqa: PLC0415
    from torchvision.utils import save_image  # noqa: PLC0415

    from datagen.model.checkpoint import load_generator  # noqa: PLC0415

    model, _ = load_generator(MODEL, torch.device("cpu"))
    model.eval()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "images")
        began = time.perf_counter()
        for label in range(CLASSES):
            (root / str(label)).mkdir(parents=True)
        with torch.inference_mode():
            for first in range(0, images, 256):
                labels = torch.arange(first, min(first + 256, images)) % CLASSES
                latents = torch.randn(len(labels), model.config.latent_dim)
                decoded = torch.sigmoid(model.decode(latents, labels))
                for offset, (image, label) in enumerate(zip(decoded, labels, strict=True)):
                    save_image(image, root / str(int(label)) / f"{first + offset:08d}.png")
        with zipfile.ZipFile(Path(folder, "images.zip"), "w") as archive:
            for path in sorted(root.rglob("*.png")):
                archive.write(path, path.relative_to(root))
        return images / (time.perf_counter() - began)


# --- the service -------------------------------------------------------------------------------


@dataclass
class MemoryWatch:
    """Largest resident memory of the stack's worker processes, in bytes, seen while it watches."""

    root: int
    peak: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self.peak = max(self.peak, largest_process(self.root))


def largest_process(root: int) -> int:
    """Resident bytes of the largest process below `root`; torch workers are by far the largest."""
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,rss="], capture_output=True, text=True, check=True
    )
    rows = [tuple(map(int, line.split())) for line in listing.stdout.splitlines()]
    family = {root}
    grown = True
    while grown:
        more = {pid for pid, parent, _ in rows if parent in family} - family
        family |= more
        grown = bool(more)
    return max((rss for pid, _, rss in rows if pid in family - {root}), default=0) * 1024


def run_job(
    dg: Client,
    images: int,
    seed: int,
    gate: dict[str, object] | None = None,
    model: str = DIGITS.name,
    **options: Any,
) -> float:
    """Seconds from submitting a job until all of it is stored."""
    began = datetime.now(UTC)
    job = dg.jobs.create(model, per_label=images // CLASSES, seed=seed, gate=gate, **options)
    job = dg.jobs.wait(job.id)
    if job.state != "succeeded" or job.images_stored != images or job.ended_at is None:
        raise DatagenError(f"The job ended {job.state} with {job.images_stored} images.")
    # By the job's own clock, which is this machine's: asking often enough to see the end for
    # oneself would take the machine's time away from the job.
    return (job.ended_at - began).total_seconds()


def watched_job(dg: Client, images: int, seed: int, **options: Any) -> tuple[float, int]:
    """Seconds of a job, and the bytes of the largest worker meanwhile."""
    with MemoryWatch(os.getpid()) as watch:
        seconds = run_job(dg, images, seed, **options)
    return seconds, max(watch.peak, largest_process(watch.root))


def first_image_seconds(dg: Client, seed: int) -> float:
    """Seconds from submitting a job on a warm worker until its first images are stored."""
    began = time.perf_counter()
    job = dg.jobs.create("mnist", per_label=1000, seed=seed)
    while job.images_stored == 0:
        time.sleep(0.005)
        job = dg.jobs.get(job.id)
    seconds = time.perf_counter() - began
    dg.jobs.wait(job.id)
    return seconds


def accept_seconds(dg: Client) -> float:
    """Seconds that the answer to a request for ten million images takes."""
    began = time.perf_counter()
    job = dg.jobs.create("mnist", per_label=1_000_000, seed=1)
    seconds = time.perf_counter() - began
    dg.jobs.cancel(job.id)
    return seconds


# --- the run -----------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All parts, taking turns; medians over the rounds."""
    cores = usable_cores()
    bare: list[tuple[float, str]] = []
    unscored: list[float] = []
    plain: list[float] = []
    service: list[float] = []
    gated: list[float] = []
    memory_usual = 0
    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as folder:
        settings = load_settings(home=Path(folder, "home"))
        with EmbeddedStack(settings) as stack, Client(stack.url, stack.api_key) as dg:
            run_job(dg, 20_000, seed=1)
            for turn in range(arguments.rounds):
                note(f"round {turn + 1} of {arguments.rounds}: bare loop")
                bare.append(best_bare(cores, SECONDS_PER_ARRANGEMENT, score=True))
                unscored.append(best_bare(cores, SECONDS_PER_ARRANGEMENT, score=False)[0])
                note("service")
                seconds, memory = watched_job(dg, arguments.images, seed=10 + turn)
                service.append(arguments.images / seconds)
                memory_usual = max(memory_usual, memory)
                note("service, with the gate's defaults")
                gated.append(arguments.images / run_job(dg, arguments.images, 10 + turn, gate={}))
                note("plain script")
                plain.append(plain_rate(arguments.plain))
            first = statistics.median(first_image_seconds(dg, 100 + turn) for turn in range(7))
            accept = statistics.median(accept_seconds(dg) for _ in range(5))
            note("service, small jobs")
            by_size = {
                size: statistics.median(size / run_job(dg, size, 50 + turn) for turn in range(5))
                for size in SMALL_SIZES
            }
            note(f"service, {arguments.large:,} images")
            seconds_large, memory_large = watched_job(dg, arguments.large, seed=99)
    rate = statistics.median(service)
    by_size |= {arguments.images: rate, arguments.large: arguments.large / seconds_large}
    ratios = [mine / best for mine, (best, _) in zip(service, bare, strict=True)]
    of_ungated = [mine / other for mine, other in zip(gated, service, strict=True)]
    to_plain = [mine / theirs for mine, theirs in zip(service, plain, strict=True)]
    bare_rate_median = statistics.median(best for best, _ in bare)
    unscored_median = statistics.median(unscored)
    return {
        "bare_loop": round(bare_rate_median),
        "bare_loop_without_scoring": round(unscored_median),
        "bare_loop_arrangement": bare[-1][1],
        "service": round(rate),
        "service_by_size": {str(size): round(found) for size, found in by_size.items()},
        "plain_script": round(statistics.median(plain)),
        "ratio_to_bare": round(statistics.median(ratios), 3),
        "ratio_to_plain": round(statistics.median(to_plain), 2),
        "cost_growth": round(seconds_large / arguments.large * rate, 3),
        "memory_growth": round(memory_large / memory_usual, 3),
        "memory_mb": round(memory_large / 1e6),
        "first_image_s": round(first, 3),
        "accept_10m_s": round(accept, 4),
        "judge_share": round(1 - bare_rate_median / unscored_median, 3),
        "service_gated": round(statistics.median(gated)),
        "gate_share": round(1 - statistics.median(of_ungated), 3),
        "images": arguments.images,
        "images_large": arguments.large,
        "rounds": arguments.rounds,
        "machine": machine(cores),
    }


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def trained_on_pictures(dg: Client, folder: Path) -> Subject:
    """A model of *things*, trained for a minute."""
    from quality.colour import made  # noqa: PLC0415 - needs datagen's own image code

    images, labels, names = made("things", PICTURES_PER_CLASS, 0)
    source = folder / "things.npz"
    pixels = images.transpose(0, 2, 3, 1)
    np.savez(source, x_train=pixels, y_train=labels, class_names=np.array(names))
    dg.datasets.add("things", source)
    model = dg.models.create("things", "things", time_budget=TRAINING_SECONDS)
    model = dg.models.wait(model.id)
    if model.state != "succeeded":
        raise DatagenError(f"The training ended {model.state}: {model.error}")
    with zipfile.ZipFile(dg.models.export(model.id, folder / "things.zip")) as archive:
        archive.extractall(folder / "things")
    return Subject(
        "things",
        folder / "things" / "generator.safetensors",
        folder / "things" / "judge.safetensors",
    )


def measure_pictures(arguments: argparse.Namespace) -> dict[str, Any]:
    """The bare loop and the service on pictures, taking turns; medians over the rounds."""
    cores = usable_cores()
    bare: list[tuple[float, str]] = []
    service: list[float] = []
    memory = 0
    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as folder:
        settings = load_settings(home=Path(folder, "home"))
        with EmbeddedStack(settings) as stack, Client(stack.url, stack.api_key) as dg:
            note("training")
            subject = trained_on_pictures(dg, Path(folder))
            options = {"model": subject.name, "sampler": "prior"}
            run_job(dg, 2_000, seed=1, **options)
            for turn in range(arguments.rounds):
                note(f"round {turn + 1} of {arguments.rounds}: bare loop")
                bare.append(best_bare(cores, SECONDS_PER_ARRANGEMENT, subject, score=True))
                note("service")
                seconds, largest = watched_job(dg, arguments.images, 10 + turn, **options)
                service.append(arguments.images / seconds)
                memory = max(memory, largest)
    ratios = [mine / best for mine, (best, _) in zip(service, bare, strict=True)]
    return {
        "bare_loop": round(statistics.median(best for best, _ in bare)),
        "bare_loop_arrangement": bare[-1][1],
        "service": round(statistics.median(service)),
        "ratio_to_bare": round(statistics.median(ratios), 3),
        "memory_mb": round(memory / 1e6),
        "images": arguments.images,
        "rounds": arguments.rounds,
        "machine": machine(cores),
    }


def note(text: str) -> None:
    """Say what is being measured, beside the results."""
    print(f"  … {text}", file=sys.stderr, flush=True)


def table(result: dict[str, Any]) -> str:
    """The results beside their targets, as Markdown."""
    rows = ["| what | measured | target |", "|---|---:|---:|"]
    plain: list[tuple[str, Callable[[Any], str]]] = [
        ("bare_loop", "{:,} images/s".format),
        ("bare_loop_without_scoring", "{:,} images/s".format),
        ("service", "{:,} images/s".format),
        ("plain_script", "{:,} images/s".format),
        ("memory_mb", "{:,} MB".format),
    ]
    rows += [f"| {name} | {shown(result[name])} | |" for name, shown in plain]
    rows += [
        f"| service, a job of {int(size):,} | {rate:,} images/s | |"
        for size, rate in result["service_by_size"].items()
    ]
    return "\n".join(rows + against_targets(result, TARGETS))


def against_targets(result: dict[str, Any], targets: dict[str, tuple[float, str]]) -> list[str]:
    """A row for each target."""
    rows = []
    for name, (target, sense) in targets.items():
        met = result[name] >= target if sense == "at least" else result[name] <= target
        mark = "" if met else " (missed)"
        rows.append(f"| {name} | {result[name]}{mark} | {sense} {target:.4g} |")
    return rows


def main() -> None:
    """Measure, print the table, and as the last line the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", action="store_true", help="64 x 64 in colour, not digits")
    parser.add_argument("--images", type=int, help="images of a job (100,000; 10,000 pictures)")
    parser.add_argument("--large", type=int, default=1_000_000, help="images of the large job")
    parser.add_argument("--plain", type=int, default=5_000, help="images of the plain script")
    parser.add_argument("--rounds", type=int, default=3, help="turns that each part takes")
    arguments = parser.parse_args()
    arguments.images = arguments.images or (10_000 if arguments.pictures else 100_000)
    if arguments.pictures:
        result = measure_pictures(arguments)
        print(f"bare loop: {result['bare_loop']:,} images/s, {result['bare_loop_arrangement']}")
        heads = ["| what | measured | target |", "|---|---:|---:|"]
        print("\n".join(heads + against_targets(result, TARGETS_OF_PICTURES)))
    else:
        result = measure(arguments)
        print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
