"""Runs of pipelines from step to step: with real rows, files and exports, and a test for workers.

Batches are made as `conftest.made` makes them and reports are written down as found; every other
use case is the service's own. Messages may be lost at any point: `tick` finds what goes on.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from pipeline_world import CLASS_NAMES, COUNTS, World, images
from sqlalchemy import select, update

from datagen.db.session import now, reading, writing
from datagen.db.tables import Batch, Dataset, Delivery, Export, Job, Model, Report, Run, new_id
from datagen.errors import Conflict, NotFound
from datagen.images import encode_png
from datagen.queue import RUN_BATCH
from datagen.schemas import STEPS, WebhookCreate
from datagen.service import (
    batches,
    delivering,
    jobs,
    pipeline_ticks,
    pipelines,
    run_work,
    runs,
    webhooks,
)


@pytest.fixture
def world(engine, storage, settings, owner, model):
    begun = World(engine, storage, settings, owner)
    begun.dataset()
    return begun


def states(run):
    return {step.name: step.state for step in run.steps}


def said(run, name):
    return " ".join(line.text for step in run.steps if step.name == name for line in step.log)


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
    assert "3 classes" not in said(run, "plan")
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


def test_every_run_has_a_seed_of_its_own_and_the_same_if_asked_again(world):
    first, second = world.done(seed=None), world.done()
    assert first.seed != second.seed
    with reading(world.engine) as session:
        row = pipelines.found(session, world.owner.id, "nightly")
        assert pipeline_ticks.seed_of(row, first.due_at) == first.seed
    assert world.one(Job, first.job).seed == first.seed


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


def due_again(world, name="nightly"):
    """A due time has come."""
    with writing(world.engine) as session:
        row = pipelines.found(session, world.owner.id, name)
        row.next_due_at = now(session) - timedelta(seconds=1)
    world.tick()
    return world.history(name)[0]


# Its next time does not come while the tests run.
SCHEDULE = {"every": "1h", "start": (datetime.now(UTC) - timedelta(minutes=30)).isoformat()}


def test_due_run_is_left_out_while_another_goes_on(world):
    world.apply(schedule=SCHEDULE)
    first = world.start()
    world.queue.run_next()
    second = due_again(world)
    world.settle()
    assert world.read(first.id).state == "succeeded"
    left_out = world.read(second.id)
    assert (left_out.state, left_out.error, left_out.job) == ("cancelled", None, None)
    assert left_out.sentence == f"Left out: run {first.id} went on."
    assert set(states(left_out).values()) == {"skipped"}


def test_run_by_hand_is_refused_while_another_goes_on_unless_it_may_wait(world):
    world.apply()
    first = world.start()
    with pytest.raises(Conflict, match=f"Run {first.id} of the pipeline 'nightly' goes on"):
        world.start()
    world.apply(on_overlap="queue")
    second = world.start()
    world.settle()
    assert [run.state for run in world.history()] == ["succeeded", "succeeded"]
    assert world.read(second.id).started_at >= world.read(first.id).ended_at


def test_queued_runs_take_their_turns_and_no_more_than_ten_wait(world):
    world.apply(schedule=SCHEDULE, on_overlap="queue")
    first = world.start()
    world.queue.run_next()
    held = world.queue.waiting.copy()
    world.queue.waiting.clear()
    for _ in range(10):
        world.start()
        world.queue.run_all()
    with pytest.raises(Conflict, match="and 10 more wait"):
        world.start()
    due_again(world)
    world.queue.run_all()
    waiting = [run for run in world.history() if run.state == "queued"]
    assert len(waiting) == 10
    world.queue.send(held)
    world.settle(40)
    ended = world.history()
    assert Counter(run.state for run in ended) == {"succeeded": 11, "cancelled": 1}
    done = sorted((run for run in ended if run.state == "succeeded"), key=lambda run: run.id)
    assert done[0].id == first.id
    for before, after in pairwise(done):
        assert after.started_at >= before.ended_at


def test_new_run_cancels_the_one_before_with_its_job(world):
    world.apply(schedule=SCHEDULE, on_overlap="cancel_previous")
    first = world.start()
    world.queue.run_next()
    world.queue.waiting.clear()
    second = due_again(world)
    world.settle()
    former, latter = world.read(first.id), world.read(second.id)
    assert (former.state, latter.state) == ("cancelled", "succeeded")
    assert former.sentence == f"Run {second.id} took its place."
    assert world.one(Job, former.job).state == "cancelled"


def test_failed_step_is_tried_again_and_goes_on_where_it_failed(world):
    world.apply(retries=2)
    run = world.start()
    world.queue.run_next()
    world.queue.waiting.clear()
    job = world.one(Job, world.read(run.id).job)
    with writing(world.engine) as session:
        batch = session.scalars(select(Batch)).first()
        batches.fail(session, batch.id, batch.attempt, "The card is gone.")
    world.settle()
    waits = world.read(run.id)
    assert (waits.state, waits.retry, states(waits)["generate"]) == ("running", 1, "waiting")
    assert "The card is gone. Tried again in 30 s, 1 of 2." in said(waits, "generate")
    world.waited(run.id)
    world.settle()
    ended = world.read(run.id)
    assert (ended.state, ended.job) == ("succeeded", job.id)
    assert "goes on where it ended" in said(ended, "generate")


def test_last_retry_fails_the_run(world):
    world.apply(model="nobody", retries=1)
    run = world.start()
    world.settle()
    assert world.read(run.id).state == "running"
    world.waited(run.id)
    world.settle()
    ended = world.read(run.id)
    assert (ended.state, ended.retry) == ("failed", 1)


@pytest.mark.parametrize("stage", ["generate", "deliver", "queued"])
def test_cancelled_run_stops_the_step_that_it_is_at(world, stage):
    world.apply()
    run = world.start()
    if stage != "queued":
        world.queue.run_next()
    if stage == "deliver":
        while any(message.task == RUN_BATCH for message in world.queue.waiting):
            world.queue.run_next()
        world.tick()
        world.queue.run_next()
    ended = world.cancel(run.id)
    assert (ended.state, ended.sentence) == ("cancelled", "Cancelled by its owner.")
    if stage == "generate":
        assert world.one(Job, ended.job).state == "cancelled"
    if stage == "deliver":
        assert world.one(Export, ended.exports[0]).state == "cancelled"
    world.settle()
    assert world.read(run.id) == ended
    with pytest.raises(Conflict, match="cancelled already"):
        world.cancel(run.id)


def test_run_whose_job_somebody_cancelled_or_removed_fails(world):
    world.apply()
    run = world.start()
    world.queue.run_next()
    with writing(world.engine) as session:
        jobs.cancel(session, world.owner.id, world.read(run.id).job)
    world.settle()
    assert world.read(run.id).error.endswith("was cancelled")


@pytest.mark.parametrize(
    ("when", "recipe", "event"),
    [
        ("failure", {"model": "nobody"}, "run.failed"),
        ("failure", {}, None),
        ("success", {}, "run.succeeded"),
        ("success", {"model": "nobody"}, None),
        ("always", {"model": "nobody"}, "run.failed"),
    ],
)
def test_webhook_is_told_of_the_end_that_it_waits_for(world, when, recipe, event):
    with writing(world.engine) as session:
        wanted = WebhookCreate(url="https://ci.example/hook", events=["job.failed"])
        hook = webhooks.create(session, world.owner.id, wanted)
    run = world.done(notify={"webhook": str(hook.id), "on": when}, **recipe)
    with reading(world.engine) as session:
        told = session.scalars(select(Delivery).where(Delivery.event.like("run.%"))).all()
    assert [(one.event, one.resource_id) for one in told] == ([(event, run.id)] if event else [])
    assert states(run)["notify"] == ("succeeded" if event else "skipped")
    if event:
        with writing(world.engine) as session:
            body = json.loads(delivering._claim(session, told[0].id).body)
        assert (body["event"], body["data"]["id"]) == (event, str(run.id))
        assert body["data"]["steps"][-1]["name"] == "notify"


def test_webhook_that_is_gone_does_not_undo_the_run(world):
    with writing(world.engine) as session:
        hook = webhooks.create(session, world.owner.id, WebhookCreate(url="https://ci.example/x"))
    world.apply(notify={"webhook": str(hook.id), "on": "always"})
    with writing(world.engine) as session:
        webhooks.remove(session, world.owner.id, hook.id)
    run = world.done()
    assert (run.state, states(run)["notify"]) == ("succeeded", "failed")
    assert "There is no webhook" in said(run, "notify")


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


def test_step_that_is_told_of_twice_is_done_once(world):
    world.apply()
    run = world.start()
    for _ in range(4):
        world._advance(str(run.id))
    assert world.count(Job) == 1
    world.settle()
    for _ in range(4):
        world._advance(str(run.id))
    assert (world.count(Job), world.count(Export)) == (1, 1)


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
