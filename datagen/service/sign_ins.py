"""Signing in to the web page: by a key, or by a link that is good once.

A session is a text that the service has signed, which names a key and when the session ends. It
opens as far as the key does, and no longer: a key that is revoked ends the sessions by it, and
signing out ends one before its time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from datagen.db.session import now
from datagen.db.tables import EndedSession, Secret, SignIn
from datagen.errors import Unauthorized
from datagen.service import keys
from datagen.service.common import insert_if_absent
from datagen.service.keys import Principal

SESSIONS = "sessions"
SECRET_BYTES = 32
LASTS = timedelta(days=7)
LINK_LASTS = timedelta(hours=1)
SESSION_ID_BYTES = 16
_FORM = re.compile(r"(([0-9a-z]{1,16})\.([0-9]{1,12})\.[0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)


def make_link(session: Session, asker: Principal) -> tuple[str, datetime]:
    """A token that signs in once, as whoever asks, and when it ends."""
    moment, token = now(session), secrets.token_urlsafe(SECRET_BYTES)
    ends = moment + LINK_LASTS
    session.add(
        SignIn(digest=_digest(token), key_id=asker.key_id, created_at=moment, expires_at=ends)
    )
    return token, ends


def use_link(session: Session, token: str) -> Principal:
    """Who a token signs in; it is used up by that. Raises Unauthorized."""
    key_id = session.scalar(
        delete(SignIn)
        .where(SignIn.digest == _digest(token), SignIn.expires_at > now(session))
        .returning(SignIn.key_id)
    )
    if key_id is None:
        raise Unauthorized(
            "This link was used already, or is over; `datagen sign-in` gives another, and a key "
            "signs in too."
        )
    return keys.principal_of(session, key_id)


def begin(session: Session, asker: Principal) -> tuple[str, datetime]:
    """A session, and when it ends."""
    insert_if_absent(session, Secret, name=SESSIONS, value=secrets.token_bytes(SECRET_BYTES))
    ends = (now(session) + LASTS).replace(microsecond=0)
    # Two that begin in one second are two: each is ended, and has its answers, for itself.
    own = secrets.token_hex(SESSION_ID_BYTES)
    text = f"{asker.key_id}.{int(ends.timestamp())}.{own}"
    return f"{text}.{_signed(_secret(session), text)}", ends


def principal_of(session: Session, text: str) -> Principal:
    """Who a session is of. Raises Unauthorized."""
    key_id, ends_at = _opened(session, text)
    digest = _digest(text)
    if now(session) >= ends_at or session.get(EndedSession, digest) is not None:
        raise _over()
    found = keys.principal_of(session, key_id)
    return replace(found, session=digest.hex(), ends_at=ends_at)


def end(session: Session, text: str) -> None:
    """End a session before its time, wherever its text is held. Raises Unauthorized."""
    _, ends_at = _opened(session, text)
    insert_if_absent(session, EndedSession, digest=_digest(text), expires_at=ends_at)


def still_admitted(
    session: Session, askers: Collection[Principal], scope: str
) -> frozenset[Principal]:
    """Of those who were admitted before, whoever would be admitted now.

    Args:
        session: reads in three statements, however many they are.
        askers: as they were found then.
        scope: that their keys must still reach.
    """
    moment = now(session)
    scopes = keys.valid_scopes(session, {one.key_id for one in askers})
    digests = [bytes.fromhex(one.session) for one in askers if one.session]
    ended = {
        digest.hex()
        for digest in session.scalars(
            select(EndedSession.digest).where(EndedSession.digest.in_(digests))
        )
    }
    return frozenset(
        one
        for one in askers
        if keys.reaches(scopes.get(one.key_id, ()), scope)
        and one.session not in ended
        and (one.ends_at is None or moment < one.ends_at)
    )


def expire(session: Session) -> None:
    """Delete links and ended sessions that would be over by now in any case."""
    moment = now(session)
    session.execute(delete(SignIn).where(SignIn.expires_at <= moment))
    session.execute(delete(EndedSession).where(EndedSession.expires_at <= moment))


def _opened(session: Session, text: str) -> tuple[str, datetime]:
    """The key that a session names, and its end; it may be over. Raises Unauthorized."""
    found = _FORM.fullmatch(text)
    secret = _secret(session)
    if found is None or not secret:
        raise _over()
    signed, key_id, ends, given = found.groups()
    if not hmac.compare_digest(_signed(secret, signed), given):
        raise _over()
    return key_id, datetime.fromtimestamp(int(ends), UTC)


def _over() -> Unauthorized:
    return Unauthorized("You are not signed in, or no longer; sign in with a key.")


def _secret(session: Session) -> bytes:
    return session.scalar(select(Secret.value).where(Secret.name == SESSIONS)) or b""


def _signed(secret: bytes, told: str) -> str:
    return hmac.new(secret, told.encode(), hashlib.sha256).hexdigest()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
