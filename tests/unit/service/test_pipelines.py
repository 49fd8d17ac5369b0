"""Recipes kept and checked, and the ticks that make their runs."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError
from sqlalchemy import func, insert, select, update

import datagen.service.clock
from datagen.db.session import now, open_engine, reading, writing
from datagen.db.tables import Dataset, Pipeline, Run, new_id
from datagen.errors import Conflict, InvalidRequest, NotFound
from datagen.schemas import STEPS, PipelineApply
from datagen.service import datasets, pipeline_ticks, pipelines

RECIPE = {
    "name": "nightly",
    "source": {"dataset": "defects"},
    "model": "defects",
    "plan": {"fill": 5000},
    "seed": 5,
    "deliver": [{"format": "imagefolder", "merge": True}],
    "schedule": {"cron": "0 2 * * *", "timezone": "Europe/Berlin"},
}


def hourly():
    """A schedule whose next time does not come while a test runs."""
    begun = datetime.now(UTC) - timedelta(minutes=30)
    return {"every": "1h", "start": begun.isoformat()}


def recipe(**changes):
    return PipelineApply.model_validate(RECIPE | changes)


def applied(engine, settings, owner, **changes):
    with writing(engine) as session:
        return pipelines.apply(session, settings, owner.id, recipe(**changes))


def tick(engine):
    with writing(engine) as session:
        return pipeline_ticks.make_due_runs(session)


def runs(engine):
    with reading(engine) as session:
        return session.scalars(select(Run).order_by(Run.due_at)).all()


def due_since(engine, pipeline_id, **ago):
    with writing(engine) as session:
        moment = now(session) - timedelta(**ago)
        session.execute(
            update(Pipeline).where(Pipeline.id == pipeline_id).values(next_due_at=moment)
        )


def test_recipe_of_the_issue_is_kept_and_the_same_again_changes_nothing(engine, settings, owner):
    first, made = applied(engine, settings, owner)
    again, made_again = applied(engine, settings, owner)
    assert (made, made_again) == (True, False)
    assert again == first
    assert (first.version, first.paused, first.last_run) == (1, False, None)
    assert first.recipe == RECIPE
    changed, _ = applied(engine, settings, owner, plan={"balance": True})
    assert (changed.id, changed.version) == (first.id, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedule": {"cron": "* * * * *"}}, "every 60 s, and 300 s"),
        ({"schedule": {"cron": "0 2 * * *", "timezone": "Mars/Base"}}, "no time zone"),
        ({"deliver": [{"format": "jpegs"}]}, "jpegs"),
        ({"deliver": [{"format": "npz", "destination": "nowhere"}]}, "no destination 'nowhere'"),
        ({"source": {"dataset": "defects@1"}, "schedule": {"on_dataset": True}}, "never changes"),
        (
            {
                "source": {"dataset": "defects", "refresh": "file:///srv/out/photos"},
                "deliver": [{"format": "npz", "destination": "disk"}],
            },
            r"closes a circle \(nightly -> nightly\)",
        ),
    ],
)
def test_recipe_that_no_run_could_follow_is_refused(engine, settings, owner, changes, words):
    settings = settings.model_copy(update={"export_destinations": "disk=file:///srv/out"})
    with pytest.raises(InvalidRequest, match=words):
        applied(engine, settings, owner, **changes)
    with reading(engine) as session:
        assert session.scalars(select(Pipeline)).all() == []


def test_validation_tells_times_and_what_is_missing_and_writes_nothing(engine, settings, owner):
    with reading(engine) as session:
        told = pipelines.validate(session, settings, owner.id, recipe())
        assert session.scalars(select(Pipeline)).all() == []
    assert len(told.next) == 5
    dataset, model = told.warnings
    assert "dataset 'defects'" in dataset
    assert "model 'defects'" in model


def test_due_time_becomes_one_run_however_many_ticks_there_are(engine, settings, owner):
    row, _ = applied(engine, settings, owner, schedule=hourly())
    due_since(engine, row.id, minutes=1)
    assert tick(engine) == 1
    # As after a clock that went back: the same time comes up again.
    due_since(engine, row.id, minutes=1)
    tick(engine)
    (run,) = runs(engine)
    assert (run.cause, run.state, run.version) == ("schedule", "queued", 1)
    assert [step["name"] for step in run.steps] == list(STEPS)
    assert tick(engine) == 0
    with reading(engine) as session:
        assert session.get_one(Pipeline, row.id).next_due_at > run.due_at


@pytest.mark.parametrize(("policy", "count"), [("run_once", 1), ("skip", 0)])
def test_times_that_nobody_saw_are_run_once_or_skipped(engine, settings, owner, policy, count):
    schedule = {"cron": "0 2 1 * *"}
    row, _ = applied(engine, settings, owner, schedule=schedule, on_missed=policy)
    due_since(engine, row.id, days=100)
    tick(engine)
    found = runs(engine)
    assert len(found) == count
    with reading(engine) as session:
        moment = now(session)
    # Of all that were missed, the last.
    assert all(moment - run.due_at < timedelta(days=32) for run in found)


def test_paused_pipeline_has_no_due_times_and_catches_up_on_none(engine, settings, owner):
    row, _ = applied(engine, settings, owner)
    with writing(engine) as session:
        pipelines.pause(session, owner.id, "nightly", paused=True)
    due_since(engine, row.id, hours=1)
    assert tick(engine) == 0
    with writing(engine) as session:
        resumed = pipelines.pause(session, owner.id, "nightly", paused=False)
        assert resumed.next_due_at > now(session)


def test_new_version_of_a_watched_dataset_makes_a_run(engine, settings, owner):
    applied(engine, settings, owner, schedule={"on_dataset": True})
    applied(engine, settings, owner, name="other", source={"dataset": "other"},
            schedule={"on_dataset": True})  # fmt: skip
    assert tick(engine) == 0
    with writing(engine) as session:
        pipelines.note_new_version(session, owner.id, "defects")
    assert tick(engine) == 1
    assert [run.cause for run in runs(engine)] == ["dataset"]
    assert tick(engine) == 0


def test_pipeline_is_removed_with_its_history_but_not_from_under_a_run(engine, settings, owner):
    row, _ = applied(engine, settings, owner, schedule=hourly())
    due_since(engine, row.id, minutes=1)
    tick(engine)
    with writing(engine) as session, pytest.raises(Conflict, match="goes on; cancel"):
        pipelines.remove(session, owner.id, "nightly")
    with writing(engine) as session:
        session.execute(update(Run).values(state="succeeded"))
        shown = pipelines.read(session, owner.id, str(row.id))
        assert shown.last_state == "succeeded"
        pipelines.remove(session, owner.id, "nightly")
        with pytest.raises(NotFound):
            pipelines.read(session, owner.id, "nightly")


def test_thousand_due_at_once_are_claimed_once_each_by_three_ticks(
    database_url, engine, settings, owner
):
    with writing(engine) as session:
        moment = now(session)
        plain = recipe(schedule=hourly()).model_dump(mode="json", exclude_unset=True)
        session.execute(
            insert(Pipeline),
            [
                {
                    "id": new_id(), "owner_id": owner.id, "name": f"p{number}", "version": 1,
                    "recipe": plain, "paused": False, "created_at": moment, "updated_at": moment,
                    "next_due_at": moment - timedelta(minutes=30)
                    if number < 1000 else moment + timedelta(hours=1),
                }
                for number in range(3000)
            ],
        )  # fmt: skip

    def beat(_):
        own, made = open_engine(database_url), 0
        try:
            while count := tick(own):
                made += count
        finally:
            own.dispose()
        return made

    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(beat, range(3)))
    assert sum(made) == 1000
    with reading(engine) as session:
        assert session.scalar(select(func.count(func.distinct(Run.pipeline_id)))) == 1000
        assert session.scalar(select(func.count()).select_from(Run)) == 1000


def test_version_that_is_registered_tells_the_pipelines(engine, settings, owner, storage):
    applied(engine, settings, owner, source={"dataset": "mini"}, schedule={"on_dataset": True})
    ingested = datasets.ingest_sample(storage)
    for _ in range(2):
        # The same images again are no new version.
        with writing(engine) as session:
            datasets.register(session, owner.id, "mini", ingested)
        tick(engine)
    with reading(engine) as session:
        assert session.scalar(select(func.count()).select_from(Dataset)) == 1
    assert len(runs(engine)) == 1


REFRESH = "file:///srv/in/photos"
WATCHING = {"schedule": {"on_dataset": True}}


def delivers(where):
    return {"deliver": [{"format": "npz", "destination": where}]}


def reads(url, dataset="defects"):
    return {"source": {"dataset": dataset, "refresh": url}}


@pytest.mark.parametrize(
    ("first", "second", "way"),
    [
        # Delivers what it reads; watches what it refreshes.
        (None, reads("file:///srv/out/x") | delivers("disk"), "second -> second"),
        (None, reads(REFRESH) | WATCHING, "second -> second"),
        # One reads what the other delivers, into the dataset that the other watches.
        (reads("file:///srv/out/a") , WATCHING | delivers("disk"), "second -> first -> second"),
        (WATCHING | delivers("disk"), reads("file:///srv/out/a"), "second -> first -> second"),
        # Each reads what the other delivers.
        (
            reads("file:///srv/out/a", "a") | delivers("attic"),
            reads("file:///attic", "b") | delivers("disk"),
            "second -> first -> second",
        ),
        # Not back again.
        (reads("file:///srv/out/a", "a"), reads(REFRESH, "b") | delivers("disk"), None),
        (reads("file:///srv/out/a", "a"), WATCHING | delivers("disk"), None),
        (reads(REFRESH, "a"), {"source": {"dataset": "a"}} | WATCHING | delivers("disk"), None),
    ],
)  # fmt: skip
def test_recipe_that_closes_a_circle_is_refused(engine, settings, owner, first, second, way):
    places = "disk=file:///srv/out,attic=file:///attic"
    settings = settings.model_copy(update={"export_destinations": places})
    plain = {"schedule": None, "deliver": []}
    if first is not None:
        applied(engine, settings, owner, **plain | first | {"name": "first"})
    wanted = plain | second | {"name": "second"}
    if way is None:
        applied(engine, settings, owner, **wanted)
        return
    with pytest.raises(InvalidRequest, match=re.escape(f"closes a circle ({way})")):
        applied(engine, settings, owner, **wanted)


class Clock:
    """The time of the service, which the test holds."""

    def __init__(self, monkeypatch, moment):
        self.moment = moment
        for room in (datagen.service.clock, pipeline_ticks, pipelines):
            monkeypatch.setattr(room, "now", lambda _session: self.moment)

    def pass_by(self, **span):
        self.moment += timedelta(**span)


@pytest.mark.parametrize(
    ("begin", "cron", "local"),
    [
        # 02:30 does not exist on the 28th, and comes twice on the 25th.
        (datetime(2027, 3, 27, tzinfo=UTC), "30 2 * * *", ["27 02:30", "28 03:00", "29 02:30"]),
        (datetime(2026, 10, 24, tzinfo=UTC), "30 2 * * *", ["24 02:30", "25 02:30", "26 02:30"]),
        (datetime(2026, 11, 24, tzinfo=UTC), "30 2 * * *", ["24 02:30", "25 02:30", "26 02:30"]),
    ],
)
@pytest.mark.parametrize("jump", [0, -5, 5], ids=["steady", "back", "forward"])
def test_each_due_time_has_one_run_whatever_clocks_do(
    engine, settings, owner, monkeypatch, begin, cron, local, jump
):
    clock = Clock(monkeypatch, begin)
    schedule = {"cron": cron, "timezone": "Europe/Berlin"}
    applied(engine, settings, owner, schedule=schedule)
    while clock.moment < begin + timedelta(days=3):
        for _ in range(2):
            tick(engine)
        # At noon of the second day the machine's clock is set, and found wrong an hour later.
        hour = (clock.moment - begin) / timedelta(hours=1)
        if jump and hour == 36:
            clock.pass_by(hours=jump)
            tick(engine)
            clock.pass_by(hours=-jump)
        clock.pass_by(minutes=30)
    berlin = [run.due_at.astimezone(ZoneInfo("Europe/Berlin")) for run in runs(engine)]
    assert [f"{moment:%d %H:%M}" for moment in berlin] == local


@pytest.mark.parametrize(("policy", "days"), [("run_once", [1, 6, 7]), ("skip", [1, 7])])
def test_times_while_all_was_down_are_run_once_or_skipped(
    engine, settings, owner, monkeypatch, policy, days
):
    clock = Clock(monkeypatch, datetime(2026, 6, 1, tzinfo=UTC))
    applied(engine, settings, owner, schedule={"cron": "0 2 * * *"}, on_missed=policy)
    # In time; after five days in which nobody looked; in time again.
    for moment in ((1, 2, 1), (6, 10, 0), (7, 2, 1)):
        clock.moment = datetime(2026, 6, *moment, tzinfo=UTC)
        tick(engine)
    assert [(run.due_at.day, run.due_at.hour) for run in runs(engine)] == [(day, 2) for day in days]


def test_recipe_of_another_version_has_no_due_time_and_holds_up_no_other(engine, settings, owner):
    rows = [applied(engine, settings, owner, name=name)[0] for name in ("old", "young")]
    with writing(engine) as session:
        session.get_one(Pipeline, rows[0].id).recipe = {"name": "old", "verse": 1}
    for row in rows:
        due_since(engine, row.id, minutes=1)
    tick(engine)
    assert [run.pipeline_id for run in runs(engine)] == [rows[1].id]
    assert tick(engine) == 0
    with reading(engine) as session:
        assert session.get_one(Pipeline, rows[0].id).next_due_at is None


def test_strength_is_for_the_sampler_that_it_belongs_to():
    near = recipe(sampler="neighbour", strength=0.3)
    assert (near.sampler, near.strength) == ("neighbour", 0.3)
    for sampler in ("recommended", "prior"):
        with pytest.raises(ValidationError, match="'strength' is for the sampler 'neighbour'"):
            recipe(sampler=sampler, strength=0.3)
