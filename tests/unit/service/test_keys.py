from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from datagen.db.session import now, reading, writing
from datagen.db.tables import ApiKey, Owner
from datagen.errors import Forbidden, InvalidRequest, Unauthorized
from datagen.service import keys

CHOSEN = "dg_ops1_" + "x" * 43


def make(engine, scopes=("read",), **options):
    with writing(engine) as session:
        return keys.create_key(session, "ada", scopes, **options)


def ask(engine, key):
    with reading(engine) as session:
        return keys.authenticate(session, key)


def test_key_opens_for_its_owner(engine):
    principal = ask(engine, make(engine, ("read", "write")))

    assert principal.owner_name == "ada"
    assert principal.scopes == {"read", "write"}


def test_keys_of_one_name_belong_to_one_owner(engine):
    first, second = make(engine), make(engine)

    assert first != second
    assert ask(engine, first).owner_id == ask(engine, second).owner_id


def test_secret_is_kept_only_as_a_hash(engine):
    secret = make(engine).split("_", 2)[2]

    with reading(engine) as session:
        row = session.scalars(select(ApiKey)).one()
    assert secret.encode() not in row.secret_hash
    assert len(bytes.fromhex(secret)) == 32


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),
        lambda key: key[:-1],
        lambda key: "dg_nosuchid_" + key.split("_", 2)[2],
        str.upper,
        lambda key: key + "\n",
    ],
)
def test_spoilt_key_is_refused(engine, spoil):
    with pytest.raises(Unauthorized):
        ask(engine, spoil(make(engine)))


@pytest.mark.parametrize("text", ["", "dg__", "dg_a_", "é" * 60, "dg_a_" + "0" * 100_000])
def test_text_that_is_no_key_is_refused(engine, text):
    with pytest.raises(Unauthorized):
        ask(engine, text)


def test_revoked_key_is_refused(engine):
    key = make(engine)
    with writing(engine) as session:
        session.execute(update(ApiKey).values(revoked_at=now(session)))

    with pytest.raises(Unauthorized):
        ask(engine, key)


def test_expired_key_is_refused(engine):
    with reading(engine) as session:
        moment = now(session)
    old = make(engine, expires_at=moment - timedelta(seconds=1))
    fresh = make(engine, expires_at=moment + timedelta(hours=1))

    with pytest.raises(Unauthorized, match="expired"):
        ask(engine, old)
    assert ask(engine, fresh).owner_name == "ada"


@pytest.mark.parametrize(
    ("scopes", "reaches"),
    [
        (("read",), {"read"}),
        (("write",), {"read", "write"}),
        (("admin",), {"read", "write", "admin"}),
    ],
)
def test_larger_scopes_hold_the_smaller(engine, scopes, reaches):
    principal = ask(engine, make(engine, scopes))

    for scope in keys.SCOPES:
        if scope in reaches:
            keys.require(principal, scope)
        else:
            with pytest.raises(Forbidden, match=scope):
                keys.require(principal, scope)


@pytest.mark.parametrize("scopes", [(), ("root",), ("read", "")])
def test_unknown_scope_is_refused(engine, scopes):
    with pytest.raises(InvalidRequest):
        make(engine, scopes)


def test_chosen_key_is_accepted_as_an_administrators_however_often_it_is_named(engine):
    for _ in range(3):
        with writing(engine) as session:
            keys.ensure_key(session, CHOSEN, "local")

    assert ask(engine, CHOSEN).scopes == {"admin"}
    with reading(engine) as session:
        assert session.scalar(select(func.count()).select_from(ApiKey)) == 1
        assert session.scalar(select(func.count()).select_from(Owner)) == 1


@pytest.mark.parametrize("key", ["secret", "dg_ops1_short", "dg_OPS_" + "x" * 43, ""])
def test_chosen_key_of_another_form_is_refused(engine, key):
    with writing(engine) as session, pytest.raises(InvalidRequest, match="dg_<id>_<secret>"):
        keys.ensure_key(session, key, "local")


def test_chosen_key_must_not_take_anothers_id(engine):
    with writing(engine) as session:
        keys.ensure_key(session, CHOSEN, "local")

    with writing(engine) as session, pytest.raises(InvalidRequest, match="another key's"):
        keys.ensure_key(session, CHOSEN[:-1] + "y", "local")
    assert ask(engine, CHOSEN)


def test_chosen_key_that_was_revoked_stays_so(engine):
    with writing(engine) as session:
        keys.ensure_key(session, CHOSEN, "local")
        session.execute(update(ApiKey).values(revoked_at=now(session)))
    with writing(engine) as session:
        keys.ensure_key(session, CHOSEN, "local")

    with pytest.raises(Unauthorized):
        ask(engine, CHOSEN)
