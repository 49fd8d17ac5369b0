from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from uuid import RFC_4122

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from datagen.db.base import STATES
from datagen.db.session import reading, writing
from datagen.db.tables import Batch, Export, Job, Model, Owner, Sample, new_id
from datagen.schemas import ENDED


def test_ids_are_version_7_and_sort_by_the_time_of_their_making():
    ids = []
    for _ in range(5):
        ids.append(new_id())
        made = time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 == made:
            pass

    assert ids == sorted(ids)
    assert {one.version for one in ids} == {7}
    assert {one.variant for one in ids} == {RFC_4122}
    assert abs((ids[-1].int >> 80) / 1000 - time.time()) < 60


def test_ids_made_at_once_differ():
    assert len({new_id() for _ in range(10_000)}) == 10_000


def test_naive_times_are_refused(engine):
    with pytest.raises(StatementError, match="no time zone"), writing(engine) as session:
        session.add(Owner(name="x", created_at=datetime(2026, 1, 1)))  # noqa: DTZ001


def test_times_come_back_in_utc_to_the_microsecond(engine):
    moment = datetime(2026, 7, 1, 2, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5.75)))
    row_id = new_id()
    with writing(engine) as session:
        session.add(Owner(id=row_id, name="x", created_at=moment))
    with reading(engine) as session:
        found = session.get_one(Owner, row_id).created_at

    assert found == moment
    assert found.tzinfo is UTC


@pytest.mark.parametrize("kind", [Model, Job, Batch, Export])
def test_states_are_those_of_the_wire_and_the_database_holds_them(kind):
    (check,) = [
        each for each in kind.__table__.constraints if each.name == f"ck_{kind.__tablename__}_state"
    ]

    assert {"queued", "running"} | ENDED == set(STATES)
    assert all(repr(state) in str(check.sqltext) for state in STATES)


def test_unknown_state_is_refused_by_the_database(engine, owner):
    moment = datetime.now(UTC)
    with pytest.raises(IntegrityError), writing(engine) as session:
        session.add(
            Model(
                owner_id=owner.id,
                name="x",
                version=1,
                state="asleep",
                visibility="private",
                options={},
                class_names=[],
                image_shape=[],
                metrics={},
                progress={},
                available_at=moment,
                created_at=moment,
            )
        )


def test_sample_of_the_largest_numbers_is_kept_exactly(engine):
    row = {
        "job_id": new_id(),
        "index": 2**63 - 1,
        "label": 2**31 - 1,
        "score": 0.1234,
        "judged_label": 0,
        "attempt": 2**15 - 1,
        "digest": bytes(range(224, 256)),
    }
    with writing(engine) as session:
        session.execute(insert(Sample).values(row))
    with reading(engine) as session:
        found = session.scalars(select(Sample)).one()

    assert {name: getattr(found, name) for name in row} == row


def test_samples_lie_in_their_primary_key_on_sqlite(engine, database_kind):
    if database_kind == "sqlite":
        with reading(engine) as session:
            made = session.execute(
                text("SELECT sql FROM sqlite_master WHERE name = 'samples'")
            ).scalar_one()
        assert made.rstrip().endswith("WITHOUT ROWID")
