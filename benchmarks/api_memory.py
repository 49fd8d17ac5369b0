"""How much memory of the API uploads take: its peak above what it has when idle.

The API runs as `datagen api` in a process of its own, and is spoken to over HTTP alone. Each file
does no harm: it only says more of itself, or unfolds to more, than it has bytes. The API's own
process is watched; readers are processes of their own, with the limit that they are given.

    python -m benchmarks.api_memory
"""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

MEGABYTE = 1 << 20
PROGRAM = "from datagen.cli import main; main()"
START_SECONDS = 120


def repeated_value(times: int = 500) -> bytes:
    """A Parquet file whose dictionary repeats one value of a megabyte so many times."""
    value = pa.array([np.random.default_rng(0).bytes(MEGABYTE)], pa.binary())
    places = pa.array(np.zeros(times, np.int32))
    images = pa.DictionaryArray.from_arrays(places, value).cast(pa.binary())
    labels = ["ab"[number % 2] for number in range(times)]
    out = io.BytesIO()
    pq.write_table(pa.table({"image": images, "label": labels}), out, compression="zstd")
    return out.getvalue()


def zeros_value() -> bytes:
    """The same of zeros, which compress to next to nothing."""
    images = pa.array([bytes(MEGABYTE)] * 500, pa.binary())
    out = io.BytesIO()
    pq.write_table(pa.table({"image": images, "label": ["a", "b"] * 250}), out, compression="zstd")
    return out.getvalue()


def large_pictures(count: int = 64, side: int = 2000) -> bytes:
    """A tar of PNG files of one colour, so many pixels a side."""
    picture = io.BytesIO()
    Image.new("RGB", (side, side), (10, 20, 30)).save(picture, "PNG")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(count):
            info = tarfile.TarInfo(f"{'ab'[number % 2]}/{number}.png")
            info.size = len(picture.getvalue())
            tar.addfile(info, io.BytesIO(picture.getvalue()))
    return out.getvalue()


def labels_alone() -> bytes:
    """An NPZ of four million images of one pixel."""
    out = io.BytesIO()
    count = 4_000_000
    np.savez_compressed(
        out, images=np.zeros((count, 1, 1), np.uint8), labels=np.zeros(count, np.uint8)
    )
    return out.getvalue()


def headers_alone() -> bytes:
    """A tar.gz of 20,000 empty files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for number in range(20_000):
            tar.addfile(tarfile.TarInfo(f"a/{number}.png"))
    return out.getvalue()


def table_of_json() -> bytes:
    """A zip with a JSON table of 40 MB beside one picture."""
    picture = io.BytesIO()
    Image.new("L", (8, 8)).save(picture, "PNG")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("0.png", picture.getvalue())
        archive.writestr("labels.json", "[" + ",".join(['{"a":[]}'] * 4_500_000) + "]")
    return out.getvalue()


def large_json() -> bytes:
    """JSON of 40 MB, where the source of a dataset is named."""
    return b'{"name": "x", "source": "' + b"x" * (40 * MEGABYTE) + b'"}'


def large_document() -> bytes:
    """A model whose document has 40 MB of empty lists."""
    out = io.BytesIO()
    document = '{"metrics": {"a": [' + ",".join(["[]"] * (13 * MEGABYTE)) + "]}}"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model.json", document)
        archive.writestr("generator.safetensors", b"")
        archive.writestr("judge.safetensors", b"")
    return out.getvalue()


UPLOAD, IMPORT = "/v1/datasets", "/v1/models/import"
FILE, JSON = "application/octet-stream", "application/json"
CAMPAIGN: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "Parquet, a value of 1 MB 500 times": (UPLOAD, FILE, repeated_value),
    "Parquet, the same of zeros": (UPLOAD, FILE, zeros_value),
    "64 PNG files of 2000 x 2000": (UPLOAD, FILE, large_pictures),
    "NPZ, 4 million images of a pixel": (UPLOAD, FILE, labels_alone),
    "tar.gz of 20,000 headers": (UPLOAD, FILE, headers_alone),
    "zip with a JSON table of 40 MB": (UPLOAD, FILE, table_of_json),
    "JSON of 40 MB": (UPLOAD, JSON, large_json),
    "JSON of 40 MB, a key without the scope": (UPLOAD, JSON, large_json),
    "model.json of 40 MB": (IMPORT, FILE, large_document),
}
WITHOUT_SCOPE = "JSON of 40 MB, a key without the scope"


@contextmanager
def api() -> Iterator[tuple[int, httpx.Client]]:
    """A running API on an empty database: its process, and a client."""
    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as name:
        home, key = Path(name), f"dg_admin_{secrets.token_urlsafe(32)}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = os.environ | {"DATAGEN_HOME": name, "DATAGEN_API_KEY": key}
        command = [sys.executable, "-c", PROGRAM]
        subprocess.run(
            [*command, "db", "upgrade"], env=environment, check=True, capture_output=True
        )
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "api", "--port", str(port)], env=environment, stdout=log, stderr=log
            )
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {key}"},
                timeout=600,
            ) as client:
                _wait(client, process)
                yield process.pid, client
        finally:
            process.terminate()
            process.wait()


def _wait(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            client.get("/healthz").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the API did not start")


def resident(pid: int, what: str) -> int:
    """Bytes of a process as the kernel counts them: VmRSS now, VmHWM at its most."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(rf"{what}:\s+(\d+)", text)[1]) * 1024  # type: ignore[index]


def reset_peak(pid: int) -> None:
    """Let the kernel count the peak from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def measured(name: str, results: list[dict[str, object]]) -> None:
    """Send one file to an API of its own, after a small one that loads what every upload needs."""
    path, kind, build = CAMPAIGN[name]
    body = build()
    with api() as (pid, client):
        headers = {"Content-Type": kind}
        if name == WITHOUT_SCOPE:
            made = client.post("/v1/keys", json={"owner": "reader", "scopes": ["read"]}).json()
            headers |= {"Authorization": f"Bearer {made['key']}", "Idempotency-Key": "once"}
        warm = client.post(UPLOAD, params={"name": "warm", "dry_run": True}, content=b"no dataset")
        assert warm.status_code < 500, warm.text  # noqa: PLR2004, S101
        idle = resident(pid, "VmRSS")
        reset_peak(pid)
        began = time.perf_counter()
        try:
            status = client.post(
                path, params={"name": "x"}, content=body, headers=headers
            ).status_code
        except httpx.HTTPError:
            status = 0
        seconds = time.perf_counter() - began
        peak, kept = resident(pid, "VmHWM") - idle, resident(pid, "VmRSS") - idle
    results.append({"file": name, "bytes": len(body), "status": status, "peak": peak, "kept": kept})
    print(
        f"{name:40} {len(body) / 1e6:7.2f} MB  {status or 'closed'}  {seconds:6.1f} s  "
        f"peak {peak / 1e6:8.1f} MB  kept {kept / 1e6:8.1f} MB",
        flush=True,
    )


def main() -> None:
    results: list[dict[str, object]] = []
    for name in CAMPAIGN:
        measured(name, results)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
