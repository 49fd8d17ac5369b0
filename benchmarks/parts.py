"""What each part of making and storing images costs, beside what one would reach for instead.

PNG encoders, decoder, judge and bulk inserts, each on one thread. Parts take turns, so that a
machine that slows down slows all of them; medians count.

    python benchmarks/parts.py [--rounds 5]

PostgreSQL is measured too where DATAGEN_TEST_DATABASE_URL names an empty database.
Prints a table, and as its last line one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import torch
from machine import machine
from PIL import Image
from sqlalchemy import Engine, delete, insert
from sqlalchemy.orm import Session

from datagen.bundled import JUDGE, MODEL
from datagen.db.bulk import insert_samples
from datagen.db.migrate import upgrade
from datagen.db.session import open_engine, writing
from datagen.db.tables import Job, Model, Owner, Sample, new_id
from datagen.images import encode_png
from datagen.model.checkpoint import load_generator
from datagen.model.decoding import Decoder
from datagen.model.samplers import Sampling, draw_latents
from datagen.quality.judge import Scorer, load_judge
from datagen.shards import SampleBatch

IMAGES = 4096
ROWS = 20_000
POSTGRES = "DATAGEN_TEST_DATABASE_URL"

Part = Callable[[], None]


def image_parts() -> dict[str, Part]:
    """From latents to files: our parts, and the encoders that one would reach for."""
    device = torch.device("cpu")
    model, _ = load_generator(MODEL, device)
    judge, _ = load_judge(JUDGE, device)
    decoder, scorer = Decoder(model, device), Scorer(judge, device)
    index = np.arange(IMAGES)
    zero, labels = np.zeros_like(index), index % 10
    latents = draw_latents(model, Sampling(), 1, index, zero, labels).latents
    images = np.concatenate(list(decoder.tiles(latents, labels)))

    def pillow() -> None:
        for image in images[:, 0]:
            Image.fromarray(image).save(io.BytesIO(), "PNG")

    def plain_zlib() -> None:
        lines = np.zeros((IMAGES, 28, 29), dtype=np.uint8)
        lines[:, :, 1:] = images[:, 0]
        for line in lines:
            zlib.compress(line.data, 1)

    return {
        "latents": lambda: void(draw_latents(model, Sampling(), 1, index, zero, labels)),
        "decode": lambda: void(list(decoder.tiles(latents, labels))),
        "score": lambda: void(scorer.score(images)),
        "png": lambda: void(encode_png(images)),
        "png_pillow": pillow,
        "png_zlib_level_1_unframed": plain_zlib,
    }


def void(_: object) -> None:
    """Drop a result."""


@contextmanager
def insert_parts(url: str, name: str) -> Iterator[dict[str, Part]]:
    """Rows into a migrated database: our bulk insert, and the ORM's."""
    upgrade(url)
    engine = open_engine(url)
    job = _job(engine)
    index = np.arange(ROWS)
    samples = SampleBatch(
        indices=index,
        labels=index % 10,
        scores=np.full(ROWS, 0.9876),
        judged_labels=index % 10,
        attempts=np.zeros_like(index),
        sources=np.full((ROWS, 2), -1),
        digests=[number.to_bytes(32, "big") for number in range(ROWS)],
        images=[b""] * ROWS,
    )

    def in_transaction(work: Callable[[Session], None]) -> Part:
        def run() -> None:
            with writing(engine) as session:
                work(session)

        return run

    def orm(session: Session) -> None:
        session.execute(
            insert(Sample),
            [
                {
                    "job_id": job,
                    "index": number + ROWS,
                    "label": number % 10,
                    "score": 0.9876,
                    "judged_label": number % 10,
                    "attempt": 0,
                    "digest": samples.digests[number],
                }
                for number in range(ROWS)
            ],
        )

    def clear() -> None:
        with writing(engine) as session:
            session.execute(delete(Sample))

    try:
        yield {
            f"rows_{name}": in_transaction(lambda session: insert_samples(session, job, samples)),
            f"rows_{name}_orm": in_transaction(orm),
            f"clear_{name}": clear,
        }
    finally:
        engine.dispose()


def _job(engine: Engine) -> UUID:
    moment = datetime.now(UTC)
    owner = Owner(id=new_id(), name="bench", created_at=moment)
    model = Model(
        id=new_id(),
        owner_id=owner.id,
        name="bench",
        version=1,
        state="succeeded",
        visibility="private",
        options={},
        class_names=[],
        image_shape=[1, 28, 28],
        metrics={},
        progress={},
        created_at=moment,
        available_at=moment,
    )
    job = Job(
        id=new_id(),
        owner_id=owner.id,
        model_id=model.id,
        state="running",
        seed=0,
        temperature=1.0,
        images_requested=ROWS,
        batch_size=ROWS,
        follow_exports=[],
        created_at=moment,
    )
    with writing(engine) as session:
        for row in (owner, model, job):
            session.add(row)
            session.flush()
    return job.id


def measure(rounds: int) -> dict[str, float]:
    """Median rate of every part: images or rows per second."""
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {}

    def take_turns(parts: dict[str, Part]) -> None:
        for turn in range(rounds + 1):
            for name, part in parts.items():
                began = time.perf_counter()
                part()
                # The first turn warms up.
                if turn:
                    seconds.setdefault(name, []).append(time.perf_counter() - began)

    take_turns(image_parts())
    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as folder:
        urls = {"sqlite": f"sqlite:///{Path(folder, 'datagen.db')}"}
        if POSTGRES in os.environ:
            urls["postgresql"] = os.environ[POSTGRES]
        for name, url in urls.items():
            with insert_parts(url, name) as parts:
                take_turns(parts)
    return {
        name: (ROWS if name.startswith("rows") else IMAGES) / statistics.median(found)
        for name, found in seconds.items()
        if not name.startswith("clear")
    }


def main() -> None:
    """Measure, print the table, and as the last line the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns that each part takes")
    rates = measure(parser.parse_args().rounds)
    print("| part, one thread | per second | µs each |\n|---|---:|---:|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:,.0f} | {1e6 / rate:.1f} |")
    print(
        json.dumps(
            {name: round(rate) for name, rate in rates.items()}
            | {"machine": machine(os.cpu_count() or 1)}
        )
    )


if __name__ == "__main__":
    main()
