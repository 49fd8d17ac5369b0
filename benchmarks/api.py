"""How quick the API answers, and to how many at once, on SQLite and on PostgreSQL.

    python -m benchmarks.api [--postgresql postgresql+psycopg://…] [--samples 1000000]
        [--requests 100000] [--mlflow EXECUTABLE]

A stack of its own is started for each database, and spoken to over HTTP from this process, which
shares the cores with it. The database that --postgresql names must be empty. With --mlflow,
MLflow's tracking server on SQLite is asked the like: to create runs, and to read one. Prints a
table as Markdown, and as its last line one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import psutil

from benchmarks.machine import machine
from datagen.client import Client
from datagen.db.bulk import insert_samples
from datagen.db.session import open_engine, writing
from datagen.db.tables import Job, JobLabel
from datagen.embedded import EmbeddedStack, Workers
from datagen.settings import Settings, load_settings
from datagen.shards import SampleBatch

CLIENTS = 32
SECONDS = 10.0
READS_A_SECOND = 200
LISTENERS = 500
ROWS_AT_ONCE = 20_000
PAGE = 1000
PREVIEWS = 50
MLFLOW_SECONDS = 120.0
Ask = Callable[[], Awaitable[httpx.Response]]
BODY = {"model": "mnist", "labels": {"3": 1}, "gate": None}


def percentile(values: list[float], share: float) -> float:
    """In milliseconds."""
    return 1000 * float(np.quantile(values, share))


async def timed(ask: Ask) -> float:
    """Seconds of one request that succeeds."""
    began = time.perf_counter()
    (await ask()).raise_for_status()
    return time.perf_counter() - began


async def creations(ask: Ask) -> dict[str, float]:
    """Things a second that so many clients create, each one after the other."""
    until = time.perf_counter() + SECONDS
    seconds: list[float] = []
    failed = 0

    async def client() -> None:
        nonlocal failed
        while time.perf_counter() < until:
            try:
                seconds.append(await timed(ask))
            except httpx.HTTPStatusError:
                failed += 1

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    spent = time.perf_counter() - began
    return {
        "per_second": len(seconds) / spent,
        "p99_ms": percentile(seconds, 0.99),
        "failed": failed,
    }


async def reads(ask: Ask) -> dict[str, float]:
    """Latency of reads that come at a fixed rate, however long the answers take."""
    tasks = []
    began = time.perf_counter()
    for number in range(int(READS_A_SECOND * SECONDS)):
        await asyncio.sleep(max(0.0, began + number / READS_A_SECOND - time.perf_counter()))
        tasks.append(asyncio.create_task(timed(ask)))
    seconds = list(await asyncio.gather(*tasks))
    return {"p50_ms": percentile(seconds, 0.5), "p99_ms": percentile(seconds, 0.99)}


async def previews(http: httpx.AsyncClient) -> dict[str, float]:
    """Milliseconds of 60 images at once, each time others, after the first."""
    seconds = []
    for seed in range(PREVIEWS + 1):
        body = {"all": 6, "seed": seed, "sampler": "prior"}
        seconds.append(
            await timed(lambda body=body: http.post("/v1/models/mnist/preview", json=body))
        )
    return {"p50_ms": percentile(seconds[1:], 0.5), "p99_ms": percentile(seconds[1:], 0.99)}


async def listeners(http: httpx.AsyncClient) -> dict[str, float]:
    """How many of so many listeners to one job see it run and see its end."""
    job = (await http.post("/v1/jobs", json=BODY | {"labels": {"3": 60_000}})).json()
    seen: list[list[str]] = []
    connected = asyncio.Event()
    waiting = LISTENERS

    async def listen() -> None:
        nonlocal waiting
        states: list[str] = []
        seen.append(states)
        async with http.stream("GET", f"/v1/jobs/{job['id']}/events", timeout=300) as answer:
            waiting -= 1
            if not waiting:
                connected.set()
            async for line in answer.aiter_lines():
                told = line.removeprefix("data: ")
                if told not in {line, "{}"}:
                    states += [json.loads(told)["state"]]

    began = time.perf_counter()
    tasks = [asyncio.create_task(listen()) for _ in range(LISTENERS)]
    await connected.wait()
    opened = time.perf_counter() - began
    await asyncio.gather(*tasks)
    return {
        "listeners": LISTENERS,
        "connected_s": opened,
        "saw_it_run": sum("running" in states for states in seen),
        "saw_its_end": sum(states[-1:] == ["succeeded"] for states in seen),
    }


def fill(settings: Settings, job_id: UUID, count: int) -> None:
    """Rows of samples for a job, without their images."""
    engine = open_engine(settings.database)
    for start in range(0, count, ROWS_AT_ONCE):
        index = np.arange(start, min(count, start + ROWS_AT_ONCE))
        zero = np.zeros_like(index)
        batch = SampleBatch(
            index, zero, np.full(len(index), 0.9), zero, zero,
            np.full((len(index), 2), -1), [number.to_bytes(32) for number in index.tolist()], [],
        )  # fmt: skip
        with writing(engine) as session:
            insert_samples(session, job_id, batch)
    with writing(engine) as session:
        job = session.get_one(Job, job_id)
        job.images_requested = job.images_stored = job.next_index = count
        part = session.get_one(JobLabel, (job_id, 0))
        part.requested = part.stored = count
        job.state = "succeeded"
    engine.dispose()


def listing(dg: Client, http: httpx.Client, settings: Settings, count: int) -> dict[str, float]:
    """Milliseconds of the first page of a job's samples, and of one of the last."""
    job = dg.jobs.create("mnist", {"3": 1}, gate=None)
    dg.jobs.cancel(job.id)
    fill(settings, job.id, count)
    path = f"/v1/jobs/{job.id}/samples"
    cursor = None
    # Cursors are opaque: the way to the last page leads through the others.
    for _ in range(count // PAGE - 1):
        answer = http.get(
            path, params={"limit": PAGE, "cursor": cursor} if cursor else {"limit": PAGE}
        )
        cursor = answer.json()["next_cursor"]

    def milliseconds(query: dict[str, Any]) -> float:
        times = []
        for _ in range(21):
            began = time.perf_counter()
            http.get(path, params=query).raise_for_status()
            times.append(time.perf_counter() - began)
        return 1000 * statistics.median(times)

    return {
        "samples": count,
        "page_1_ms": milliseconds({"limit": PAGE}),
        "last_page_ms": milliseconds({"limit": PAGE, "cursor": cursor}),
    }


async def memory(http: httpx.AsyncClient, pid: int, job_id: str, count: int) -> dict[str, float]:
    """Resident memory of the API's process after a tenth of so many requests, and after all."""
    process = psutil.Process(pid)
    left = count

    async def client() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            (await http.get(f"/v1/jobs/{job_id}")).raise_for_status()

    left = count // 10
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    first = process.memory_info().rss
    left = count - count // 10
    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    spent = time.perf_counter() - began
    return {
        "requests": count,
        "megabytes_at_a_tenth": first / 1e6,
        "growth": process.memory_info().rss / first,
        "reads_per_second": (count - count // 10) / spent,
    }


def measured(kind: str, url: str | None, given: argparse.Namespace) -> dict[str, Any]:
    """All figures on one kind of database."""
    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as folder:
        settings = load_settings(home=Path(folder, "home"), database_url=url)
        with (
            EmbeddedStack(settings, workers=Workers.ALL) as stack,
            Client(stack.url, stack.api_key) as dg,
        ):
            headers = {"Authorization": f"Bearer {stack.api_key}"}
            job = dg.jobs.wait(dg.jobs.create("mnist", {"3": 100}, gate=None).id)

            async def over_http() -> dict[str, Any]:
                limits = httpx.Limits(max_connections=None, max_keepalive_connections=CLIENTS)
                async with httpx.AsyncClient(
                    base_url=stack.url, headers=headers, limits=limits, trust_env=False, timeout=60
                ) as http:
                    found: dict[str, Any] = {}
                    for name, part in (
                        ("previews", lambda: previews(http)),
                        ("reads", lambda: reads(lambda: http.get(f"/v1/jobs/{job.id}"))),
                        ("events", lambda: listeners(http)),
                        (
                            "memory",
                            lambda: memory(http, stack.pids["api"], str(job.id), given.requests),
                        ),
                        ("busy", lambda: creations(lambda: http.post("/v1/jobs", json=BODY))),
                    ):
                        print(f"{kind}: {name}", file=sys.stderr, flush=True)
                        found[name] = await part()
                    return found

            found = asyncio.run(over_http())
            print(f"{kind}: listing", file=sys.stderr, flush=True)
            with httpx.Client(base_url=stack.url, headers=headers, trust_env=False) as http:
                found["listing"] = listing(dg, http, settings, given.samples)
        # Once more with nobody who makes the images: what the API alone can take.
        print(f"{kind}: creations", file=sys.stderr, flush=True)
        with EmbeddedStack(settings, workers=Workers.LIGHT) as stack:
            found["creations"] = asyncio.run(created(stack))
            return found


async def created(stack: EmbeddedStack) -> dict[str, float]:
    """Jobs a second, on a stack without generating workers."""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    async with httpx.AsyncClient(
        base_url=stack.url, headers=headers, trust_env=False, timeout=60
    ) as http:
        return await creations(lambda: http.post("/v1/jobs", json=BODY))


def beside(executable: str) -> dict[str, Any]:
    """MLflow's server: runs created, and one of them read."""
    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        url = f"http://127.0.0.1:{port}"
        command = [
            executable, "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
            "--default-artifact-root", folder, "--port", str(port), "--workers", "1",
        ]  # fmt: skip
        with Path(folder, "log").open("wb") as log:
            server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            _wait_for(f"{url}/health", server)
            return asyncio.run(_runs(url))
        finally:
            # Its workers are its children.
            for process in [*psutil.Process(server.pid).children(recursive=True), server]:
                process.terminate()
            server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + MLFLOW_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit(f"Nothing answers at {url}.")


async def _runs(url: str) -> dict[str, Any]:
    base = f"{url}/api/2.0/mlflow"
    async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=60) as http:
        body = {"experiment_id": "0", "start_time": 0}
        made = await http.post("/runs/create", json=body)
        run_id = made.raise_for_status().json()["run"]["info"]["run_id"]
        query = {"run_id": run_id}
        return {
            "reads": await reads(lambda: http.get("/runs/get", params=query)),
            "creations": await creations(lambda: http.post("/runs/create", json=body)),
        }


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """The figures beside their targets, as Markdown."""
    rows: list[tuple[str, str, Callable[[dict[str, Any]], str]]] = [
        (f"jobs created a second, {CLIENTS} clients", "≥ 200",
         lambda one: f"{one['creations']['per_second']:.0f}"),
        ("the same while two workers make the images", "",
         lambda one: f"{one['busy']['per_second']:.0f}"),
        ("a preview of 60 images, p50, p99", "< 200 ms",
         lambda one: f"{one['previews']['p50_ms']:.0f}, {one['previews']['p99_ms']:.0f} ms"),
        ("of those that were asked for, not created", "0",
         lambda one: f"{one['creations']['failed']}"),
        ("p99 of that", "", lambda one: f"{one['creations']['p99_ms']:.0f} ms"),
        (f"p99 of reads at {READS_A_SECOND} a second", "< 50 ms",
         lambda one: f"{one['reads']['p99_ms']:.1f} ms"),
        (f"of {LISTENERS} listeners, those that saw the end", f"{LISTENERS}",
         lambda one: f"{one['events']['saw_its_end']}"),
        ("those that saw it run", f"{LISTENERS}", lambda one: f"{one['events']['saw_it_run']}"),
        ("page 1 of the samples", "", lambda one: f"{one['listing']['page_1_ms']:.1f} ms"),
        ("last page", "within 20 ms", lambda one: f"{one['listing']['last_page_ms']:.1f} ms"),
        ("reads a second, as many as go", "",
         lambda one: f"{one['memory']['reads_per_second']:.0f}"),
        ("memory after all requests ÷ after a tenth", "1",
         lambda one: f"{one['memory']['growth']:.3f}"),
    ]  # fmt: skip
    lines = [f"| what | {' | '.join(found)} | target |", f"|---|{'---:|' * (len(found) + 1)}"]
    for name, target, shown in rows:
        # MLflow's server knows two of these questions.
        cells = []
        for one in found.values():
            try:
                cells.append(shown(one))
            except KeyError:
                cells.append("")
        lines.append(f"| {name} | {' | '.join(cells)} | {target} |")
    return lines


def main() -> None:
    """Measure each database in turn."""
    parser = argparse.ArgumentParser(description="The API, on SQLite and PostgreSQL.")
    parser.add_argument("--postgresql", metavar="URL", help="An empty database to measure, too.")
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--mlflow", metavar="EXECUTABLE", help="MLflow, to be asked the like.")
    given = parser.parse_args()
    # Ours must not stand still while the server's answers are timed.
    gc.freeze()
    urls = {"SQLite": None} | ({"PostgreSQL": given.postgresql} if given.postgresql else {})
    found = {}
    if given.mlflow:
        print("MLflow", file=sys.stderr, flush=True)
        found["MLflow, SQLite"] = beside(given.mlflow)
    for kind, url in urls.items():
        found[kind] = measured(kind, url, given)
        print(json.dumps(found[kind]), file=sys.stderr, flush=True)
    print("\n".join(table(found)))
    print(json.dumps({"machine": machine(os.cpu_count() or 1), "found": found}))


if __name__ == "__main__":
    main()
