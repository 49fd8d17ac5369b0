from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from datagen.db.session import now, reading, writing
from datagen.db.tables import Replay
from datagen.errors import InFlight, InvalidRequest
from datagen.service import replays
from datagen.service.replays import Answer

PRINT = b"f" * 32
ANSWER = Answer(202, {"location": "/v1/jobs/1"}, b"{}")


def begin(engine, owner, key="k", fingerprint=PRINT):
    with writing(engine) as session:
        return replays.begin(session, owner.id, key, fingerprint)


def finish(engine, owner, key="k"):
    with writing(engine) as session:
        replays.finish(session, owner.id, key, ANSWER)


def age(engine, **by):
    with writing(engine) as session:
        session.execute(update(Replay).values(created_at=now(session) - timedelta(**by)))


def test_second_request_gets_the_answer_of_the_first(engine, owner):
    assert begin(engine, owner) is None
    with pytest.raises(InFlight, match="still being done"):
        begin(engine, owner)
    finish(engine, owner)
    assert begin(engine, owner) == ANSWER


def test_request_that_came_to_nothing_may_be_done_again(engine, owner):
    begin(engine, owner)
    with writing(engine) as session:
        replays.forget(session, owner.id, "k")
    assert begin(engine, owner) is None


def test_answer_is_forgotten_after_a_day(engine, owner):
    begin(engine, owner)
    finish(engine, owner)
    age(engine, hours=23)
    assert begin(engine, owner) == ANSWER
    age(engine, hours=25)
    assert begin(engine, owner) is None


def test_request_whose_process_was_lost_is_done_again_after_a_while(engine, owner):
    begin(engine, owner)
    age(engine, minutes=14)
    with pytest.raises(InFlight):
        begin(engine, owner)
    age(engine, minutes=16)
    assert begin(engine, owner) is None


def test_old_answers_are_dropped(engine, owner):
    begin(engine, owner, "old")
    age(engine, hours=25)
    begin(engine, owner, "new")
    with writing(engine) as session:
        replays.expire(session)
    with reading(engine) as session:
        assert session.scalars(select(Replay.key)).all() == ["new"]


def test_other_request_under_the_same_key_is_refused(engine, owner):
    begin(engine, owner)
    with pytest.raises(InvalidRequest, match="used for another request"):
        begin(engine, owner, fingerprint=b"g" * 32)


@pytest.mark.parametrize("key", ["", "x" * 201, "\n", "é"])
def test_key_that_cannot_be_one_is_refused(engine, owner, key):
    with pytest.raises(InvalidRequest, match="printable ASCII"):
        begin(engine, owner, key)
    with reading(engine) as session:
        assert session.scalar(select(func.count()).select_from(Replay)) == 0
