"""The Python client against a real server, as the README shows it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from datagen import Client
from datagen.errors import InvalidRequest, NotFound, UnknownLabel
from datagen.schemas import Job

pytestmark = pytest.mark.xdist_group("stack")


def test_job_is_made_followed_read_and_brought_home(stack: Any, tmp_path: Path) -> None:
    with Client(home=stack.home) as dg:
        assert dg.url == stack.url
        told: list[Job] = []
        made = dg.jobs.create("mnist", {"3": 5, "8": 2}, seed=7, exports=["parquet"])
        job = dg.jobs.wait(made.id, told.append)
        assert told[-1] == job
        assert (job.state, job.images_stored, job.seed) == ("succeeded", 7, 7)
        samples = list(dg.jobs.samples(job.id))
        assert [sample.label for sample in samples] == ["3"] * 5 + ["8"] * 2
        assert [sample.index for sample in dg.jobs.samples(job.id, label="8")] == [5, 6]
        assert dg.jobs.sample(job.id, 6) == samples[6]
        assert hashlib.sha256(dg.jobs.image(job.id, 6)).hexdigest() == samples[6].digest
        export = dg.exports.wait(job.exports[0])
        seen: list[tuple[int, int]] = []
        out = dg.exports.download(
            export.id, tmp_path / "out", progress=lambda *now: seen.append(now)
        )
        assert seen[-1] == (export.bytes, export.bytes)
        assert (out / "manifest.json").is_file()
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        with pytest.raises(InvalidRequest, match="not empty"):
            dg.exports.download(export.id, out)
        dg.exports.download(export.id, out, overwrite=True)


def test_errors_are_the_classes_of_datagen(stack: Any) -> None:
    with Client(stack.url, stack.key) as dg:
        with pytest.raises(UnknownLabel) as label:
            dg.jobs.create("mnist", {"eleven": 1})
        assert label.value.field == "labels"
        with pytest.raises(NotFound):
            dg.jobs.create("nobodys", per_label=1)
        with pytest.raises(InvalidRequest) as temperature:
            dg.jobs.create(per_label=1, temperature=float("nan"))
        assert temperature.value.field == "temperature"
        with pytest.raises(NotFound):
            dg.jobs.get("../models/mnist")
        with pytest.raises(InvalidRequest):
            dg.models.create("m", "d", epoch=3)


def test_lists_are_pages(stack: Any, job: Any) -> None:
    with Client(stack.url, stack.key) as dg:
        first = dg.jobs.list(limit=1)
        assert len(first.items) == 1
        assert job["id"] in {str(one.id) for one in dg.jobs.list(limit=1000).items}
        assert "mnist" in {model.name for model in dg.models.list().items}
        assert dg.models.get("mnist").visibility == "public"
