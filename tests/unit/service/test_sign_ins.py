"""Sessions and links of the web page."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from datagen.db.session import now, reading, writing
from datagen.db.tables import ApiKey, EndedSession, SignIn
from datagen.errors import Unauthorized
from datagen.service import keys, sign_ins


@pytest.fixture
def asker(engine):
    with writing(engine) as session:
        return keys.authenticate(session, keys.create_key(session, "me", ["read"]))


def begun(engine, asker):
    with writing(engine) as session:
        return sign_ins.begin(session, asker)


def opened(engine, text):
    with reading(engine) as session:
        return sign_ins.principal_of(session, text)


def test_session_is_its_keys_holder_and_reaches_as_far(engine, asker):
    text, ends = begun(engine, asker)
    found = opened(engine, text)
    assert replace(found, session="", ends_at=None) == asker
    assert found.ends_at == ends
    assert found.caller != asker.caller
    with reading(engine) as session:
        assert ends - now(session) <= sign_ins.LASTS


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1] + ("0" if text[-1] != "0" else "1"),
        lambda text: text.replace(".", ".9", 1),
        lambda text: "a" + text[1:] if text[0] != "a" else "b" + text[1:],
        lambda _: "",
        lambda _: "a.1." + "0" * 32 + "." + "0" * 64,
        lambda text: text + "\n",
    ],
)
def test_session_that_was_changed_or_made_up_opens_nothing(engine, asker, change):
    text, _ = begun(engine, asker)
    with pytest.raises(Unauthorized):
        opened(engine, change(text))


def test_no_session_opens_where_none_was_ever_begun(engine):
    with pytest.raises(Unauthorized):
        opened(engine, "a.99999999999." + "0" * 32 + "." + "0" * 64)


def test_session_ends_with_its_time_and_with_its_key(engine, asker, monkeypatch):
    text, ends = begun(engine, asker)
    with monkeypatch.context() as patched:
        patched.setattr(sign_ins, "now", lambda _session: ends + timedelta(seconds=1))
        with pytest.raises(Unauthorized, match="no longer"):
            opened(engine, text)
    with writing(engine) as session:
        session.execute(update(ApiKey).values(revoked_at=now(session)))
    with pytest.raises(Unauthorized, match="valid no longer"):
        opened(engine, text)


def test_link_signs_in_once(engine, asker):
    with writing(engine) as session:
        token, _ = sign_ins.make_link(session, asker)
        # Only its hash is kept.
        assert token.encode() not in session.scalars(select(SignIn.digest)).one()
    with writing(engine) as session:
        assert sign_ins.use_link(session, token) == asker
    with writing(engine) as session, pytest.raises(Unauthorized, match="used already"):
        sign_ins.use_link(session, token)


def test_link_that_is_over_or_none_signs_nobody_in(engine, asker):
    with writing(engine) as session:
        token, _ = sign_ins.make_link(session, asker)
        past = now(session) - timedelta(seconds=1)
        session.execute(update(SignIn).values(expires_at=past))
    for wrong in (token, "", "x" * 500, "\ud800"):
        with writing(engine) as session, pytest.raises(Unauthorized):
            sign_ins.use_link(session, wrong)
    with writing(engine) as session:
        sign_ins.make_link(session, asker)
        sign_ins.expire(session)
        assert len(session.scalars(select(SignIn)).all()) == 1


def test_sessions_that_begin_in_one_second_are_two(engine, asker):
    texts = {begun(engine, asker)[0] for _ in range(3)}
    assert len(texts) == 3
    with writing(engine) as session:
        sign_ins.end(session, min(texts))
    assert opened(engine, max(texts)).key_id == asker.key_id


def test_session_that_was_ended_opens_nothing_and_others_do(engine, asker):
    text, _ = begun(engine, asker)
    with writing(engine) as session:
        session.execute(update(ApiKey).values(scopes=["read", "write"]))
    with writing(engine) as session:
        sign_ins.end(session, text)
        sign_ins.end(session, text)
    with pytest.raises(Unauthorized, match="no longer"):
        opened(engine, text)
    with writing(engine) as session:
        sign_ins.expire(session)
    with pytest.raises(Unauthorized, match="no longer"):
        opened(engine, text)
    with writing(engine) as session, pytest.raises(Unauthorized):
        sign_ins.end(session, text[:-1] + "x")


def test_ended_sessions_are_forgotten_once_they_are_over(engine, asker, monkeypatch):
    text, ends = begun(engine, asker)
    with writing(engine) as session:
        sign_ins.end(session, text)
    monkeypatch.setattr(sign_ins, "now", lambda _session: ends)
    with writing(engine) as session:
        sign_ins.expire(session)
        assert session.scalars(select(EndedSession)).all() == []


@pytest.mark.parametrize("end", ["revoked", "expired", "narrowed", "signed out", "over"])
def test_whoever_would_not_be_admitted_now_is_left_out(engine, asker, end, monkeypatch):
    text, ends = begun(engine, asker)
    by_session = opened(engine, text)
    with writing(engine) as session:
        bystander = keys.authenticate(session, keys.create_key(session, "me", ["admin"]))
    everybody = {asker, by_session, bystander}

    def admitted():
        with reading(engine) as session:
            return sign_ins.still_admitted(session, everybody, "read")

    assert admitted() == everybody
    changes = {
        "revoked": {"revoked_at": ends},
        "expired": {"expires_at": ends - sign_ins.LASTS},
        "narrowed": {"scopes": []},
    }
    with writing(engine) as session:
        if end in changes:
            own = update(ApiKey).where(ApiKey.id == asker.key_id)
            session.execute(own.values(changes[end]))
        elif end == "signed out":
            sign_ins.end(session, text)
    if end == "over":
        monkeypatch.setattr(sign_ins, "now", lambda _session: ends)
    assert admitted() == ({bystander} if end in changes else {bystander, asker})
