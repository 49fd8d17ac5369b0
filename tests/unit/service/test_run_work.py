"""What workers do for runs: reading sources, and clearing what is no longer kept."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import numpy as np
from pipeline_world import images, said, states
from sqlalchemy import select, update

from datagen.db.session import now, reading, writing
from datagen.db.tables import Dataset, Export, Run
from datagen.images import encode_png
from datagen.service import (
    run_work,
)


def written(folder, images):
    for label, name in enumerate(images.class_names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, row in enumerate(np.flatnonzero(images.labels == label)):
            (png,) = encode_png(np.ascontiguousarray(images.images[row : row + 1]))
            (folder / name / f"{number}.png").write_bytes(png)


def test_source_is_read_first_and_becomes_a_version_only_where_it_has_changed(world, tmp_path):
    folder = tmp_path / "photos"
    written(folder, images())
    world.settings = world.settings.model_copy(update={"dataset_roots": tmp_path.as_uri()})
    refresh = {"source": folder.as_uri(), "split": {"train": 1.0}}
    world.apply(source={"dataset": "photos", "refresh": refresh})
    first, second = world.done(), world.done()
    assert (first.state, states(first)["refresh"], first.images) == ("succeeded", "succeeded", 8)
    assert second.dataset == first.dataset
    written(folder, images((6, 3, 3), 50))
    third = world.done()
    assert world.one(Dataset, third.dataset).version == 2
    assert "photos@2" in said(third, "refresh")


def test_source_that_cannot_be_read_fails_the_run_after_its_attempts(world, tmp_path):
    world.settings = world.settings.model_copy(update={"dataset_roots": tmp_path.as_uri()})
    world.apply(source={"dataset": "photos", "refresh": f"{tmp_path.as_uri()}/nowhere"})
    run = world.start()
    world.settle()
    ended = world.read(run.id)
    assert (ended.state, states(ended)["refresh"]) == ("failed", "failed")
    assert "There is nothing at" in ended.error


def test_silent_refresh_is_taken_up_by_another_worker_and_given_up_at_last(world, tmp_path):
    written(tmp_path / "photos", images())
    world.settings = world.settings.model_copy(update={"dataset_roots": tmp_path.as_uri()})
    world.apply(source={"dataset": "photos", "refresh": f"{tmp_path.as_uri()}/photos"})
    run = world.start()
    world.queue.run_next()
    world.queue.waiting.clear()
    for _ in range(world.settings.max_attempts):
        with writing(world.engine) as session:
            assert run_work._claim(session, world.settings, run.id) is not None
            assert run_work._claim(session, world.settings, run.id) is None
        # Killed.
        with writing(world.engine) as session:
            past = now(session) - timedelta(seconds=1)
            session.execute(update(Run).values(lease_until=past))
    world.settle()
    assert "killed or fell silent" in world.read(run.id).error


def delivered(folder):
    return sorted(path.parent.name for path in folder.rglob("manifest.json"))


def test_destination_keeps_the_last_exports_and_what_is_not_the_pipelines(world, tmp_path):
    out = tmp_path / "out"
    world.settings = world.settings.model_copy(
        update={"export_destinations": f"disk={out.as_uri()}"}
    )
    world.apply(
        deliver=[
            {"format": "parquet", "destination": "disk", "name": "{pipeline}/{run}", "keep": 2},
            {"format": "parquet", "merge": True, "keep": 1},
        ]
    )
    done = [world.done() for _ in range(2)]
    changed = out / "nightly" / str(done[1].id) / "manifest.json"
    changed.write_text("{}")
    done += [world.done() for _ in range(2)]
    assert [run.state for run in done] == ["succeeded"] * 4
    assert delivered(out) == sorted(str(run.id) for run in done[1:])
    assert f"Left alone what lies at disk/nightly/{done[1].id}" in said(done[3], "deliver")
    with reading(world.engine) as session:
        rest = session.scalars(select(Export)).all()
    assert Counter(row.location is None for row in rest) == {False: 2, True: 1}


def test_exports_from_before_classes_could_be_ordered_are_replaced_too(world):
    first = world.done(deliver=[{"format": "parquet", "merge": True, "keep": 1}])
    (export,) = first.exports
    old = dict(world.one(Export, export).request)
    del old["class_order"]
    world.change(Export, export, request=old)
    second = world.done()
    with reading(world.engine) as session:
        assert [row.id for row in session.scalars(select(Export))] == list(second.exports)


def test_fixed_place_is_overwritten_by_the_same_pipeline_alone(world, tmp_path):
    out = tmp_path / "out"
    world.settings = world.settings.model_copy(
        update={"export_destinations": f"disk={out.as_uri()}"}
    )
    place = {"format": "parquet", "destination": "disk", "name": "latest", "keep": 1}
    first, second = world.done(deliver=[place]), world.done()
    assert [first.state, second.state] == ["succeeded", "succeeded"]
    assert delivered(out) == ["latest"]
    assert world.count(Export) == 1
    world.apply(name="other", deliver=[place])
    run = world.start("other")
    world.settle()
    assert "There is an export at 'latest'" in world.read(run.id).error
