"""How long one owner waits while another one has all that the service does at work at once.

    python -m benchmarks.fairness [--seconds 90] [--jobs 200]

Starts `datagen up` as it is by default, on a home of its own. The busy owner has a large job and
many small ones, trainings, reports, exports, uploads, and webhooks whose receivers accept and never
answer. The other one asks for a preview and a job of 100 images, again and again: first alone, then
beside all that. Ends by itself; everything is on loopback. Prints a table as Markdown, and as its
last line one JSON object.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from datagen.client import Client
from datagen.errors import DatagenError

RECEIVERS, TRAININGS, REPORTS, EXPORTS = 20, 3, 3, 6
LARGE, SMALL, UPLOADED = 200_000, 100, 500
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
    kept = {name: text for name, text in os.environ.items() if not name.startswith("DATAGEN_")}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "datagen.cli", "up", "--port", "0", "--json"],
        env=kept | {"DATAGEN_HOME": str(home), "DATAGEN_WEBHOOKS_PRIVATE": "true"},
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


def images(count: int, seed: int) -> bytes:
    """A small dataset as an .npz file."""
    random, out = np.random.default_rng(seed), io.BytesIO()
    labels = np.arange(count) % 3
    pixels = random.integers(0, 80, (count, 12, 12), dtype=np.uint8)
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
    """Have everything at work, and keep it so until told to stop."""
    for url in urls:
        client.webhooks.create(url)
    for number in range(2):
        (folder / f"{number}.npz").write_bytes(images(3000, number))
        client.datasets.add(f"busy{number}", folder / f"{number}.npz")
    for number in range(TRAININGS):
        client.models.create(f"busy{number}", "busy0", epochs=400, judge_epochs=50)
    done = client.jobs.create("mnist", {"3": 2000}, gate=None)
    client.jobs.wait(done.id, timeout=LONGEST_SECONDS)
    for _ in range(REPORTS):
        client.reports.create(job=done.id, quick=True)
    client.jobs.create("mnist", {"3": LARGE})
    threading.Thread(target=upload, args=(client, folder, stop), daemon=True).start()
    for number in range(jobs):
        if stop.is_set():
            return
        client.jobs.create("mnist", {"3": SMALL})
        if number % (jobs // EXPORTS or 1) == 0:
            client.exports.create(done.id, "imagefolder")


def upload(client: Client, folder: Path, stop: threading.Event) -> None:
    """Upload one small dataset after the other."""
    number = 0
    while not stop.is_set():
        number += 1
        path = folder / "upload.npz"
        path.write_bytes(images(UPLOADED, 100 + number))
        with contextlib.suppress(DatagenError):
            client.datasets.add("busy-uploads", path)


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
            loading = threading.Thread(target=load, args=(busy, urls, jobs, Path(name), stop))
            loading.start()
            time.sleep(WARM_UP_SECONDS)
            beside = asked(quiet, seconds)
            stop.set()
            loading.join()
    return {"alone": alone, "beside": beside}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--jobs", type=int, default=200)
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
