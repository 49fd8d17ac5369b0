"""Runs of pipelines from step to step: with real rows, files and exports.

Messages may be lost at any point: `tick` finds what goes on.
"""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta

import pytest
from pipeline_world import CLASS_NAMES, COUNTS, images, said, states
from sqlalchemy import select

from datagen.db.session import reading, writing
from datagen.db.tables import Batch, Export, Job, Model, Report, Run, new_id
from datagen.errors import Conflict, NotFound
from datagen.schemas import STEPS
from datagen.service import (
    pipeline_ticks,
    pipelines,
    runs,
)


def test_run_fills_every_class_and_exports_them_with_the_real_images(world):
    run = world.done()

    assert (run.state, run.error, run.images, run.seed) == ("succeeded", None, 8, 5)
    assert states(run) == dict.fromkeys(STEPS, "skipped") | dict.fromkeys(
        ("plan", "generate", "deliver"), "succeeded"
    )
    job, export = world.one(Job, run.job), world.one(Export, run.exports[0])
    assert (job.images_stored, job.seed) == (8, 5)
    assert job.noted == {"pipeline": "nightly", "run": str(run.id)}
    archive = zipfile.ZipFile(io.BytesIO(world.storage.get(export.archive_key)))
    manifest = json.loads(archive.read("manifest.json"))
    assert manifest["counts"]["train"] == dict.fromkeys(CLASS_NAMES, 6)
    assert said(run, "plan") == "8 images: bee +5, cat +3."
    assert str(run.job) in said(run, "generate")


def test_nothing_to_do_is_a_success_that_says_so(world):
    run = world.done(plan={"fill": 1})
    assert (run.state, run.images, run.job, run.exports) == ("succeeded", 0, None, [])
    assert run.sentence.startswith("Nothing to do: every class has what the plan asks for")
    assert (world.count(Job), world.count(Export)) == (0, 0)


@pytest.mark.parametrize(
    ("plan", "counts"),
    [
        ({"fill": 4}, {"bee": 3, "cat": 1}),
        ({"add": 2}, {"ant": 2, "bee": 2, "cat": 2}),
        ({"balance": True}, {"bee": 5, "cat": 3}),
        ({"labels": {"bee": 4}}, {"bee": 4}),
        ({"fill": 6, "max_per_label": 4}, {"bee": 4, "cat": 3}),
    ],
)
def test_dry_run_tells_counts_before_and_after_and_makes_nothing(world, plan, counts):
    world.apply(plan=plan)
    with reading(world.engine) as session:
        told = runs.dry_run(session, world.settings, world.owner.id, "nightly")
    before = dict(zip(CLASS_NAMES, COUNTS, strict=True))
    assert {one.label: one.before for one in told.classes} == before
    assert {
        one.label: one.after - one.before for one in told.classes if one.after != one.before
    } == counts
    assert (told.images, told.dataset, told.warnings) == (sum(counts.values()), "defects@1", [])
    assert (world.count(Run), world.count(Job)) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "step", "words"),
    [
        ({"source": {"dataset": "nowhere"}}, "refresh", "There is no dataset 'nowhere'"),
        ({"model": "nobody"}, "train", "There is no model 'nobody'"),
        ({"plan": {"labels": {"dog": 1}}}, "plan", "has no label 'dog'; it knows ant, bee, cat."),
        ({"plan": {"fill": 900, "max_images": 10}}, "plan", "'max_images' lets a run make 10"),
        ({"sampler": "neighbour"}, "generate", "keeps no real examples"),
        ({"plan": {"fill": 10_000}}, "generate", "of the quota of 100 are left"),
    ],
)
def test_run_that_cannot_be_fails_with_the_reason_and_the_pipeline_stays(
    world, changes, step, words
):
    world.settings = world.settings.model_copy(update={"quota_images": 100})
    run = world.done(**changes)
    assert (run.state, states(run)[step]) == ("failed", "failed")
    assert words in run.error
    assert words in said(run, step)
    assert (world.count(Job), world.count(Export)) == (0, 0)
    again = world.start()
    assert again.id != run.id


def test_destination_that_was_taken_away_fails_the_run(world, tmp_path):
    world.settings = world.settings.model_copy(
        update={"export_destinations": f"disk={(tmp_path / 'out').as_uri()}"}
    )
    world.apply(deliver=[{"format": "parquet", "destination": "disk"}])
    world.settings = world.settings.model_copy(update={"export_destinations": None})
    run = world.done()
    assert run.state == "failed"
    assert "There is no destination 'disk'" in run.error


def test_delivered_classes_are_numbered_as_the_recipe_says(world):
    world.apply(deliver=[{"format": "parquet", "class_order": "name"}, {"format": "npz"}])
    run = world.done()
    orders = [world.one(Export, one).request["class_order"] for one in run.exports]
    assert orders == ["name", "dataset"]


def test_every_run_has_a_seed_of_its_own_and_the_same_if_asked_again(world):
    first, second = world.done(seed=None), world.done()
    assert first.seed != second.seed
    with reading(world.engine) as session:
        row = pipelines.find_pipeline(session, world.owner.id, "nightly")
        assert pipeline_ticks.seed_of(row, first.due_at) == first.seed
    assert world.one(Job, first.job).seed == first.seed


def test_seeds_of_runs_are_whole_in_a_float64(world):
    world.apply(seed=None)
    with reading(world.engine) as session:
        row = pipelines.find_pipeline(session, world.owner.id, "nightly")
        moments = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(40)]
        seeds = {pipeline_ticks.seed_of(row, moment) for moment in moments}
    assert len(seeds) == 40
    assert {int(float(seed)) for seed in seeds} == seeds


def test_model_is_trained_where_there_is_none_and_when_the_images_have_changed(world):
    world.apply(model={"name": "own", "train": {"when": "dataset_changed", "epochs": 3}})

    def trained(run, **values):
        world.queue.run_all()
        (row,) = waiting_models(world)
        assert row.options == {"epochs": 3}
        assert states(world.read(run.id))["train"] == "running"
        world.change(
            Model, row.id, state="succeeded", digest="d", checkpoint_key="d", judge_key="e",
            judge_digest="e", ended_at=row.created_at, **values
        )  # fmt: skip
        world.settle()
        return world.read(run.id)

    first = trained(world.start())
    assert (first.state, world.one(Model, first.model).version) == ("succeeded", 1)
    second = world.done()
    assert (second.state, second.model, states(second)["train"]) == (
        "succeeded", first.model, "skipped"
    )  # fmt: skip
    world.dataset(images((6, 2, 3)))
    third = trained(world.start())
    assert world.one(Model, third.model).version == 2
    assert world.one(Model, third.model).dataset_id == third.dataset
    assert world.one(Model, third.model).parent_id == first.model


@pytest.mark.parametrize(
    ("train", "config", "line"),
    [
        ({"from_latest": False}, {}, None),
        ({"width": 8}, {"width": 16}, "Does not start from own@1: 'width' is 8"),
        ({}, {"image_shape": [3, 64, 64]}, "Does not start from own@1, which has single-scale"),
    ],
)
def test_training_starts_from_nothing_where_it_is_asked_to_or_cannot_do_otherwise(
    world, train, config, line
):
    world.apply(model={"name": "own", "train": {"when": "always", **train}})
    for _ in range(2):
        run = world.start()
        world.queue.run_all()
        (row,) = waiting_models(world)
        shape = {"image_shape": row.image_shape, "class_count": 3}
        world.change(
            Model, row.id, state="succeeded", digest="d", checkpoint_key="d", judge_key="e",
            judge_digest="e", ended_at=row.created_at, config=shape | config,
        )  # fmt: skip
        world.settle()
    assert (row.version, row.parent_id) == (2, None)
    told = [entry.text for step in world.read(run.id).steps for entry in step.log]
    assert line is None or any(line in text for text in told)


def waiting_models(world):
    with reading(world.engine) as session:
        return session.scalars(select(Model).where(Model.state == "queued")).all()


def test_training_that_fails_fails_the_run(world):
    world.apply(model={"train": {"when": "always"}})
    run = world.start()
    world.queue.run_all()
    (row,) = waiting_models(world)
    world.change(Model, row.id, state="failed", error="The loss is no number.")
    world.settle()
    assert world.read(run.id).error == "The training of nightly@1 failed: The loss is no number."


def reported(world, run, **found):
    """Write down a report as found."""
    world.queue.run_all()
    world.tick()
    world.queue.run_all()
    with reading(world.engine) as session:
        row = session.scalars(select(Report)).one()
    assert row.job_id == world.read(run.id).job
    world.close_reports(**found)
    world.settle()
    return world.read(run.id)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, None),
        ({"fidelity": 0.8}, "fidelity 0.8, at least 0.9"),
        ({"fidelity": None}, "fidelity could not be computed"),
        ({"copies": 0.2}, "copies 0.2, at most 0.01"),
        ({"outcome": "hurts"}, "usefulness hurts, it must not hurt"),
        ({"outcome": "no_measurable_difference"}, None),
    ],
)
def test_checks_stop_a_run_before_anything_is_delivered(world, found, words):
    world.apply(
        checks={"min_fidelity": 0.9, "max_copies": 0.01, "usefulness": "does_not_hurt"}, retries=3
    )
    run = reported(world, world.start(), **found)
    if words is None:
        assert (run.state, len(run.exports)) == ("succeeded", 1)
        assert "passed" in said(run, "check")
    else:
        assert (run.state, run.retry, run.exports) == ("failed", 0, [])
        assert words in run.error
        assert states(run)["deliver"] == "skipped"
        assert world.count(Export) == 0


def test_run_reaches_its_end_though_every_message_is_lost(world):
    world.apply()
    run = world.start()
    world.queue.waiting.clear()
    for _ in range(40):
        for message in world.tick():
            world.queue.waiting.clear()
            world.queue.send([message])
            world.queue.run_next()
        with reading(world.engine) as session:
            lost = session.scalars(select(Batch.id).where(Batch.state == "queued")).all()
            unwritten = session.scalars(select(Export.id).where(Export.state == "queued")).all()
        for batch_id in lost:
            world._batch(str(batch_id))
        for export_id in unwritten:
            world._export(str(export_id))
        world.queue.waiting.clear()
        if world.read(run.id).state == "succeeded":
            break
    assert world.read(run.id).state == "succeeded"
    assert (world.count(Job), world.count(Export), world.count(Run)) == (1, 1, 1)


def test_step_with_two_messages_is_done_once(world):
    world.apply()
    run = world.start()
    for _ in range(4):
        world._advance(str(run.id))
    assert world.count(Job) == 1
    world.settle()
    for _ in range(4):
        world._advance(str(run.id))
    assert (world.count(Job), world.count(Export)) == (1, 1)


def test_new_version_of_the_watched_dataset_makes_a_run(world):
    world.apply(schedule={"on_dataset": True})
    world.settle()
    assert world.history() == []
    world.dataset(images((6, 2, 3)))
    world.settle()
    (run,) = world.history()
    assert (run.cause, run.state, run.images) == ("dataset", "succeeded", 7)


def test_others_runs_are_not_there(world, engine, settings):
    world.apply()
    run = world.start()
    with reading(engine) as session, pytest.raises(NotFound):
        runs.read(session, new_id(), run.id)
    with writing(engine) as session, pytest.raises(NotFound):
        runs.cancel(session, settings, new_id(), run.id)
    with writing(engine) as session, pytest.raises(NotFound):
        runs.start(session, new_id(), "nightly")


def test_history_comes_in_pages_newest_first(world):
    world.apply(model="nobody")
    for _ in range(3):
        world.done()
    with reading(world.engine) as session:
        first = runs.history(session, world.owner.id, "nightly", limit=2)
        rest = runs.history(session, world.owner.id, "nightly", limit=2, cursor=first.next_cursor)
        none = runs.history(session, world.owner.id, "nightly", state="succeeded")
    ids = [run.id for run in (*first.items, *rest.items)]
    assert ids == sorted(ids, reverse=True)
    assert (len(ids), rest.next_cursor, none.items) == (3, None, [])


def test_pipeline_is_removed_with_its_history_but_not_while_it_runs(world):
    world.apply()
    run = world.start()
    with writing(world.engine) as session, pytest.raises(Conflict, match=str(run.id)):
        pipelines.remove(session, world.owner.id, "nightly")
    world.settle()
    with writing(world.engine) as session:
        pipelines.remove(session, world.owner.id, "nightly")
    assert (world.count(Run), world.count(Job), world.count(Export)) == (0, 1, 1)
