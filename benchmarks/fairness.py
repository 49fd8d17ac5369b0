"""How long one owner waits while another one has all that the service does at work at once.

    python -m benchmarks.fairness [--seconds 90] [--jobs 371]

Starts `datagen up` as it is by default, on a home of its own. The busy owner has a large job and
many small ones, trainings, reports, figures, exports, previews, decoded latents, uploads, a
pipeline that runs again and again, and webhooks whose receivers accept and never answer. The other
one requests a preview and a job of 100 images, again and again: first alone, then beside all that.
Ends by itself; everything is on loopback. Prints a table as Markdown, and as its last line one JSON
object.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from benchmarks.commands import clean_environment
from benchmarks.machine import machine
from datagen.client import Client
from datagen.errors import DatagenError

RECEIVERS, TRAININGS, REPORTS, FIGURES, EXPORTS = 20, 3, 3, 3, 6
LARGE, SMALL, UPLOADED = 200_000, 100, 500
# Between two requests of one kind of the busy owner, so that a refusal is no busy loop.
PAUSE_SECONDS = 0.05
RECIPE = {
    "name": "busy", "source": {"dataset": "digits0"}, "model": "mnist", "plan": {"add": 500},
    "gate": None, "deliver": [{"format": "npz"}],
}  # fmt: skip
WARM_UP_SECONDS, LONGEST_SECONDS = 10.0, 120.0


@dataclass
class Waits:
    """Seconds that each answer took, and how many were refused."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0

    def timed(self, ask: Callable[[], Any]) -> None:
        """Ask once, and note how long it took."""
        began = time.perf_counter()
        try:
            ask()
        except (DatagenError, TimeoutError):
            self.refused += 1
        self.seconds.append(time.perf_counter() - began)

    def summary(self) -> dict[str, float]:
        """Median, 95th percentile, how many, and how many of them refused."""
        ordered = sorted(self.seconds) or [float("nan")]
        return {
            "p50": round(statistics.median(ordered), 2),
            "p95": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 2),
            "count": len(self.seconds),
            "refused": self.refused,
        }


@contextlib.contextmanager
def stack(home: Path) -> Iterator[Client]:
    """A running `datagen up`, and a client of its administrator."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "datagen.cli", "up", "--port", "0", "--json"],
        env=clean_environment() | {"DATAGEN_HOME": str(home), "DATAGEN_WEBHOOKS_PRIVATE": "true"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = json.loads(process.stdout.readline() if process.stdout else "")
        with Client(said["url"], (home / "api-key").read_text().strip()) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextlib.contextmanager
def silent_receivers(count: int) -> Iterator[list[str]]:
    """Addresses that accept connections and never answer."""
    with contextlib.ExitStack() as opened:
        servers = [
            opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
            for _ in range(count)
        ]
        yield [f"http://127.0.0.1:{one.getsockname()[1]}/" for one in servers]


def images(count: int, seed: int, classes: int = 3, side: int = 12) -> bytes:
    """A small dataset as an .npz file."""
    random, out = np.random.default_rng(seed), io.BytesIO()
    labels = np.arange(count) % classes
    pixels = random.integers(0, 80, (count, side, side), dtype=np.uint8)
    pixels[np.arange(count), labels] = 250
    np.savez(out, images=pixels, labels=labels)
    return out.getvalue()


def asked(client: Client, seconds: float) -> dict[str, dict[str, float]]:
    """Ask for previews and small jobs for a while; how long each took."""
    previews, jobs = Waits(), Waits()
    end = time.monotonic() + seconds

    def keep_on(waits: Waits, ask: Callable[[], Any]) -> None:
        while time.monotonic() < end:
            waits.timed(ask)

    def job() -> None:
        made = client.jobs.create("mnist", {"3": 100}, gate=None)
        client.jobs.wait(made.id, timeout=LONGEST_SECONDS)

    threads = [
        threading.Thread(target=keep_on, args=(previews, lambda: preview(client))),
        threading.Thread(target=keep_on, args=(jobs, job)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"preview": previews.summary(), "job": jobs.summary()}


def preview(client: Client) -> object:
    """Ten images at once."""
    return client.models.preview("mnist", {"3": 10})


def load(client: Client, urls: list[str], jobs: int, folder: Path, stop: threading.Event) -> None:
    """Have everything at work, and keep it so until `stop` is set. Raises what goes wrong."""
    with ThreadPoolExecutor() as pool:
        try:
            done = begin(client, urls, folder)
            config = client.models.get("mnist").config or {}
            latents = [[0.0] * int(config["latent_dim"])]
            numbers = count(100)
            kinds: list[Callable[[], object]] = [
                lambda: client.models.preview("mnist", {"8": 10}),
                lambda: client.models.decode("mnist", latents, ["8"]),
                lambda: upload(client, folder, next(numbers)),
                lambda: client.runs.wait(client.pipelines.run("busy").id, timeout=LONGEST_SECONDS),
            ]
            going = [pool.submit(again_and_again, kind, stop) for kind in kinds]
            for number in range(jobs):
                if stop.is_set():
                    break
                client.jobs.create("mnist", {"3": SMALL})
                if number % (jobs // EXPORTS or 1) == 0:
                    client.exports.create(done, "imagefolder")
        except BaseException:
            stop.set()
            raise
        for one in going:
            one.result()


def begin(client: Client, urls: list[str], folder: Path) -> UUID:
    """Begin what takes long; the id of a job that has ended."""
    for url in urls:
        client.webhooks.create(url)
    for number in range(2):
        (folder / f"{number}.npz").write_bytes(images(3000, number))
        client.datasets.add(f"busy{number}", folder / f"{number}.npz")
    for number in range(TRAININGS):
        client.models.create(f"busy{number}", "busy0", epochs=400, judge_epochs=50)
    for number in range(FIGURES):
        # As the bundled model's: figures with images of its own for each.
        (folder / "digits.npz").write_bytes(images(400, 10 + number, classes=10, side=28))
        client.datasets.add(f"digits{number}", folder / "digits.npz")
        client.figures.create("mnist", dataset=f"digits{number}")
    client.pipelines.apply(RECIPE)
    done = client.jobs.create("mnist", {"3": 2000}, gate=None)
    client.jobs.wait(done.id, timeout=LONGEST_SECONDS)
    for _ in range(REPORTS):
        client.reports.create(job=done.id, quick=True)
    client.jobs.create("mnist", {"3": LARGE})
    return done.id


def again_and_again(ask: Callable[[], object], stop: threading.Event) -> None:
    """Ask until `stop` is set; a refusal is an answer too."""
    while not stop.wait(PAUSE_SECONDS):
        with contextlib.suppress(DatagenError, TimeoutError):
            ask()


def upload(client: Client, folder: Path, number: int) -> object:
    """Upload one more small dataset."""
    path = folder / "upload.npz"
    path.write_bytes(images(UPLOADED, number))
    return client.datasets.add("busy-uploads", path)


def measured(seconds: float, jobs: int) -> dict[str, Any]:
    """Waits of the quiet owner, alone and beside the busy one."""
    with (
        tempfile.TemporaryDirectory(prefix="datagen-fairness-") as name,
        stack(Path(name, "home")) as admin,
        silent_receivers(RECEIVERS) as urls,
    ):
        quiet, busy = (
            Client(admin.url, admin.keys.create(owner, ["write"]).key)
            for owner in ("quiet", "busy")
        )
        with quiet, busy:
            asked(quiet, WARM_UP_SECONDS)
            alone = asked(quiet, seconds / 3)
            stop = threading.Event()
            with ThreadPoolExecutor(1) as pool:
                loading = pool.submit(load, busy, urls, jobs, Path(name), stop)
                try:
                    time.sleep(WARM_UP_SECONDS)
                    beside = asked(quiet, seconds)
                finally:
                    stop.set()
            # What went wrong there would have measured less than a full load.
            loading.result()
    return {"alone": alone, "beside": beside}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--jobs", type=int, default=371)
    options = parser.parse_args()
    found = measured(options.seconds, options.jobs)
    print(f"{machine(os.cpu_count() or 1)}; load average {os.getloadavg()[0]:.1f}\n")
    print("| what | alone p50 / p95 | beside the busy owner p50 / p95 | times | asked | refused |")
    print("|---|---|---|---|---|---|")
    for what, bound in (("preview", 1.0), ("job", 5.0)):
        alone, beside = found["alone"][what], found["beside"][what]
        print(
            f"| {what} (to be < {bound:g} s) | {alone['p50']} / {alone['p95']} s "
            f"| {beside['p50']} / {beside['p95']} s | {beside['p95'] / alone['p95']:.1f} "
            f"| {beside['count']} | {beside['refused']} |"
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
