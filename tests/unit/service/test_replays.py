from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from datagen.db.session import now, reading, writing
from datagen.db.tables import Replay
from datagen.errors import InFlight, InvalidRequest
from datagen.service import replays
from datagen.service.replays import Answer, Stored

CALLER, HEAD, BODY = "abc", b"h" * 32, b"b" * 32
ANSWER = Answer(202, {"location": "/v1/jobs/1"}, b"{}")


def begin(engine, key="k", head=HEAD, caller=CALLER):
    with writing(engine) as session:
        return replays.begin(session, caller, key, head)


def finish(engine, began, key="k"):
    with writing(engine) as session:
        replays.finish(session, CALLER, key, began, BODY, ANSWER)


def is_new(begun):
    return isinstance(begun, datetime)


def age(engine, **by):
    with writing(engine) as session:
        session.execute(update(Replay).values(created_at=now(session) - timedelta(**by)))


def test_second_request_gets_the_answer_of_the_first(engine):
    began = begin(engine)
    with pytest.raises(InFlight, match="still being done"):
        begin(engine)
    finish(engine, began)
    assert begin(engine) == Stored(BODY, ANSWER)


def test_answer_belongs_to_one_caller(engine):
    finish(engine, begin(engine))
    assert is_new(begin(engine, caller="abd"))
    assert is_new(begin(engine, caller="abc:session"))


def test_request_that_came_to_nothing_may_be_done_again(engine):
    began = begin(engine)
    with writing(engine) as session:
        replays.forget(session, CALLER, "k", began)
    assert is_new(begin(engine))


def test_request_that_took_the_place_of_a_slow_one_keeps_its_own_answer(engine):
    slow = begin(engine)
    age(engine, minutes=16)
    quick = begin(engine)
    other = Answer(201, {}, b"other")
    with writing(engine) as session:
        replays.finish(session, CALLER, "k", slow, b"c" * 32, other)
        replays.forget(session, CALLER, "k", slow)
    finish(engine, quick)
    assert begin(engine) == Stored(BODY, ANSWER)


def test_answer_is_forgotten_after_a_day(engine):
    finish(engine, begin(engine))
    age(engine, hours=23)
    assert begin(engine) == Stored(BODY, ANSWER)
    age(engine, hours=25)
    assert is_new(begin(engine))


def test_request_whose_process_was_lost_is_done_again_after_a_while(engine):
    begin(engine)
    age(engine, minutes=14)
    with pytest.raises(InFlight):
        begin(engine)
    age(engine, minutes=16)
    assert is_new(begin(engine))


def test_request_whose_process_was_lost_before_the_clock_was_set_back_is_done_again(engine):
    begin(engine)
    age(engine, days=-1)
    assert is_new(begin(engine))


def test_old_answers_are_dropped(engine):
    begin(engine, "old")
    age(engine, hours=25)
    begin(engine, "new")
    with writing(engine) as session:
        replays.expire(session)
    with reading(engine) as session:
        assert session.scalars(select(Replay.key)).all() == ["new"]


def test_other_request_under_the_same_key_is_refused(engine):
    begin(engine)
    with pytest.raises(InvalidRequest, match="used for another request"):
        begin(engine, head=b"g" * 32)


def test_other_body_under_the_same_key_is_refused():
    stored = Stored(BODY, ANSWER)
    replays.refuse_other("k", stored, BODY)
    with pytest.raises(InvalidRequest, match="used for another request"):
        replays.refuse_other("k", stored, b"c" * 32)


@pytest.mark.parametrize("key", ["", "x" * 201, "\n", "é"])
def test_key_that_cannot_be_one_is_refused(engine, key):
    with pytest.raises(InvalidRequest, match="printable ASCII"):
        begin(engine, key)
    with reading(engine) as session:
        assert session.scalar(select(func.count()).select_from(Replay)) == 0
