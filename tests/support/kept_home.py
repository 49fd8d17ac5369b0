"""A small home of everything: made once by a version, kept in tests/data/homes, upgraded for ever.

    PYTHONPATH=. python tests/support/kept_home.py tests/data/homes/NAME.tar.xz

A dataset of 80 tiny images, a model trained on it, a job of the bundled model with two exports, a
pipeline that has run once, a webhook and a key. The weights of the bundled model are left out, as
each version brings its own; `expected.json` says what must still be there.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
import tarfile
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from running import Service, wait_until

from datagen import bundled
from datagen.images import encode_png

SIDE, CLASSES, IMAGES = 8, ("ant", "bee"), 40
EXPECTED = "expected.json"


def photos(folder: Path) -> Path:
    """Tiny images of two classes, in folders."""
    random = np.random.default_rng(3)
    for label, name in enumerate(CLASSES):
        made = random.integers(0, 80, (IMAGES, 1, SIDE, SIDE), dtype=np.uint8)
        made[:, :, 2 + 3 * label] = 250
        (folder / name).mkdir(parents=True)
        for number, png in enumerate(encode_png(made)):
            (folder / name / f"{number}.png").write_bytes(png)
    return folder


def filled(service: Service, folder: Path) -> dict[str, Any]:
    """Fill a home; returns what was made."""
    client = service.client
    dataset = client.datasets.add("insects", photos(folder / "photos"))
    model = client.models.create(
        "insects", "insects", preset="small", epochs=1, refine_epochs=0, judge_epochs=1, width=8,
        latent_dim=4,
    )  # fmt: skip
    model = client.models.wait(model.id)
    assert model.state == "succeeded", model.error
    job = client.jobs.create("mnist", {"3": 20, "8": 10}, seed=7, exports=["parquet"])
    job = client.jobs.wait(job.id)
    exports = [client.exports.wait(found) for found in client.jobs.get(job.id).exports]
    exports.append(client.exports.wait(client.exports.create(job.id, "imagefolder").id))
    hook = client.webhooks.create("https://example.org/hook")
    key = client.keys.create("reader", scopes=["read"])
    client.pipelines.apply(
        {
            "name": "nightly",
            "source": {"dataset": "insects"},
            "model": "insects",
            "plan": {"add": 3},
            "gate": None,
            "deliver": [{"format": "npz"}],
            "schedule": {"cron": "0 2 * * *"},
        }
    )
    run = client.runs.wait(client.pipelines.run("nightly").id)
    assert run.state == "succeeded", run.error
    return {
        "dataset": str(dataset.id),
        "model": {"id": str(model.id), "digest": model.digest},
        "job": str(job.id),
        "digests": [sample.digest for sample in client.jobs.samples(job.id)],
        "exports": {str(one.id): one.digest for one in exports},
        "webhook": str(hook.id),
        "key": key.key,
        "run": {"id": str(run.id), "job": str(run.job)},
    }


def packed(home: Path, expected: dict[str, Any], out: Path) -> None:
    """Keep a home whose stack has ended, without logs and the bundled weights."""
    with closing(sqlite3.connect(home / "datagen.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    weights = (bundled.MODEL, bundled.JUDGE, bundled.INDEX)
    left_out = {hashlib.sha256(path.read_bytes()).hexdigest() for path in weights}
    (home / EXPECTED).write_text(json.dumps(expected, indent=1))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(out, "w:xz", preset=9) as archive:
        for path in sorted(home.rglob("*")):
            kept = path.relative_to(home).parts[0] not in {"logs", "valkey"}
            if kept and path.is_file() and path.stem not in left_out:
                archive.add(path, path.relative_to(home).as_posix())


def main(out: Path) -> None:
    """Make a home with this version, and keep it."""
    with tempfile.TemporaryDirectory() as name:
        service = Service(Path(name) / "home", {"DATAGEN_WORKERS": "1"})
        try:
            service.start()
            expected = filled(service, Path(name))
            service.stop()
        finally:
            service.kill_if_running()
        wait_until(lambda: not service.survivors())
        packed(service.home, expected, out)
    sys.stdout.write(f"{out}: {out.stat().st_size:,} bytes, {time.strftime('%Y-%m-%d')}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
