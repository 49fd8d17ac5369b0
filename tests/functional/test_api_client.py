"""The Python client against a real server, as the README shows it."""

from __future__ import annotations

import hashlib
import json
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from datagen import Client
from datagen.client import resources
from datagen.errors import InvalidRequest, NotFound, UnknownLabel
from datagen.schemas import Format, Job, Me, Page

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


def test_what_comes_back_can_be_asked_for_more(stack: Any, tmp_path: Path) -> None:
    with Client(stack.url, stack.key) as dg:
        job = dg.jobs.create("mnist", {"3": 2, "8": 1}, seed=7, gate=None).wait()
        assert [sample.label for sample in job.samples(label="3")] == ["3", "3"]
        assert hashlib.sha256(job.image(2)).hexdigest() == next(job.samples(label="8")).digest
        assert [one.state for one in job.events()][-1] == "succeeded"
        out = job.export("webdataset", splits={"train": 1.0}).download(tmp_path / "out")
        assert (out / "manifest.json").is_file()
        assert dg.jobs.list(limit=1).items[0].refresh() == job.refresh()
        more = job.extend({"0": 1}).wait()
        assert more.images_stored == 4
        more.remove(force=True)
        with pytest.raises(NotFound):
            job.refresh()
        assert len(dg.models.get("mnist").preview({"3": 2})) == 2


def test_resource_that_no_client_gave_says_so() -> None:
    job = resources.Job.model_construct(id="x")
    with pytest.raises(ValueError, match="did not come from a Client"):
        job.wait()


@pytest.mark.parametrize("call", ["jobs.create", "exports.create", "models.preview"])
def test_misspelt_option_is_refused_before_anything_is_sent(stack: Any, call: str) -> None:
    with Client(stack.url, stack.key) as dg:
        method = attrgetter(call)(dg)
        with pytest.raises(TypeError, match="'sede' is no option here"):
            method("mnist", sede=1)


def test_older_client_reads_a_newer_server(stack: Any, job: Any) -> None:
    """Everything that the server says gets one more field, at every depth."""

    def newer(told: Any) -> Any:
        if isinstance(told, BaseModel):
            return {name: newer(value) for name, value in told} | {"of_tomorrow": [{}]}
        if isinstance(told, dict):
            return {name: newer(value) for name, value in told.items()}
        return [newer(one) for one in told] if isinstance(told, list) else told

    with Client(stack.url, stack.key) as dg:
        dg.exports.wait(dg.exports.create(job["id"], "npz").id)
        dg.jobs.create("mnist", {"3": 1}, gate={"min_score": 0.1}).wait()
        answers: list[tuple[type[BaseModel], Any]] = [
            (Page[resources.Job], dg.jobs.list()),
            (Page[resources.Export], dg.exports.list()),
            (Page[resources.Model], dg.models.list()),
            (Page[Format], dg.exports.formats()),
            (Me, dg.me()),
        ]
        for kind, answer in answers:
            text = json.dumps(newer(answer), default=to_jsonable_python)
            read = dg._transport.read_as(kind, text)
            if isinstance(read, Page):
                assert read.items
                assert read.items == answer.items
            else:
                assert read == answer
