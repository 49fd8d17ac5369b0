"""API keys: who asks, and how far their key reaches.

A key is `dg_<id>_<secret>`. The secret is 256 random bits, so one round of SHA-256 is enough to
keep it: there is nothing to guess, unlike with a password.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import and_, bindparam, or_, select, update
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.session import now
from datagen.db.tables import ApiKey, Owner, new_id
from datagen.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unauthorized
from datagen.schemas import QUOTAS, KeyCreate, KeyMade, Me, Page, QuotaUsed
from datagen.service import quotas
from datagen.service.common import (
    MAX_PAGE,
    decode_moment_cursor,
    encode_cursor,
    insert_if_absent,
)
from datagen.service.unreadable_rows import skip_unreadable
from datagen.settings import Settings

SCOPES = ("read", "write", "admin")
SECRET_BYTES = 32
_ID_BYTES = 6
_ID_FORM = re.compile(r"[0-9a-z]{1,16}", re.ASCII)
_FORM = re.compile(r"dg_([0-9a-z]{1,16})_([0-9A-Za-z_-]{43,128})", re.ASCII)
# Made once: every request asks this.
_WITH_OWNER = (
    select(ApiKey, Owner)
    .join(Owner, Owner.id == ApiKey.owner_id)
    .where(ApiKey.id == bindparam("key_id"))
)


@dataclass(frozen=True)
class Principal:
    """Who asks, by which key.

    Attributes:
        owner_id: whose things they are.
        owner_name: as the owner is called.
        key_id: the key, or the one that the session was begun with.
        scopes: how far it reaches.
        session: a hash of the session's text; empty where the key itself was sent.
        ends_at: when the session ends.
    """

    owner_id: UUID
    owner_name: str
    key_id: str
    scopes: frozenset[str]
    session: str = ""
    ends_at: datetime | None = None

    @property
    def caller(self) -> str:
        """The key or the session, as one text."""
        return f"{self.key_id}:{self.session}" if self.session else self.key_id


def create_key(
    session: Session,
    owner_name: str,
    scopes: Sequence[str],
    *,
    expires_at: datetime | None = None,
) -> str:
    """Make a key, and its owner where there is none yet; returns the only copy of its text.

    Raises:
        InvalidRequest: a scope that is not read, write or admin.
    """
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise InvalidRequest(
            f"{unknown[0] if unknown else 'No scope'!r} is not a scope; give read, write or admin.",
            field="scopes",
        )
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_hex(SECRET_BYTES)
    _add(session, key_id, secret, ensure_owner(session, owner_name), scopes, expires_at)
    return f"dg_{key_id}_{secret}"


def create(session: Session, wanted: KeyCreate) -> KeyMade:
    """Make a key for an owner, who is made where there is none, and set what is told of quotas."""
    owner_id = ensure_owner(session, wanted.owner)
    told = {name: getattr(wanted, name) for name in QUOTAS}
    changed = {name: value for name, value in told.items() if value is not None}
    if changed:
        session.execute(update(Owner).where(Owner.id == owner_id).values(changed))
    expires_at = None
    if wanted.expires_in is not None:
        expires_at = now(session) + timedelta(seconds=wanted.expires_in)
    return _made(session, create_key(session, wanted.owner, wanted.scopes, expires_at=expires_at))


def list_keys(
    session: Session, *, owner: str | None = None, limit: int = 50, cursor: str | None = None
) -> Page[schemas.Key]:
    """Keys of all owners, or of one, newest first. Raises InvalidRequest for a bad cursor."""
    query = select(ApiKey, Owner).join(Owner, Owner.id == ApiKey.owner_id)
    if owner is not None:
        query = query.where(Owner.name == owner)
    if cursor is not None:
        moment, key_id = decode_moment_cursor(cursor)
        same = and_(ApiKey.created_at == moment, ApiKey.id < key_id)
        query = query.where(or_(ApiKey.created_at < moment, same))
    limit = min(limit, MAX_PAGE)
    newest = (ApiKey.created_at.desc(), ApiKey.id.desc())
    rows = session.execute(query.order_by(*newest).limit(limit + 1)).all()
    following = None
    if len(rows) > limit:
        last = rows[limit - 1][0]
        following = encode_cursor([last.created_at.isoformat(), last.id])
    moment = now(session)
    owners = {key.id: of.name for key, of in rows}
    items = skip_unreadable(
        [key for key, _ in rows[:limit]],
        lambda some: [_to_schema(key, owners[key.id], moment) for key in some],
    )
    return Page(items=items, next_cursor=following)


def revoke(session: Session, asker: Principal, key_id: str) -> schemas.Key:
    """End a key now; safe to repeat.

    Raises:
        NotFound: no such key.
        Conflict: it is the very key that asks.
    """
    key, owner = _named(session, key_id)
    if key.id == asker.key_id:
        raise Conflict(
            f"The key {key_id!r} is the one that you ask with; rotate it, or revoke it with "
            "another."
        )
    if key.revoked_at is None:
        key.revoked_at = now(session)
    session.flush()
    return _to_schema(key, owner.name, now(session))


def rotate(session: Session, key_id: str, grace: int) -> KeyMade:
    """A new key with owner, scopes and end of a former one, which opens for `grace` seconds more.

    Raises:
        NotFound: no such key.
        Conflict: it was revoked or has expired.
    """
    key, owner = _named(session, key_id)
    moment = now(session)
    state = _state(key, moment)
    if state != "valid":
        raise Conflict(f"The key {key_id!r} is {state}; create a new one.")
    made = create_key(session, owner.name, key.scopes, expires_at=key.expires_at)
    if grace:
        last = moment + timedelta(seconds=grace)
        key.expires_at = last if key.expires_at is None else min(last, key.expires_at)
    else:
        key.revoked_at = moment
    session.flush()
    return _made(session, made)


def read_key(session: Session, key_id: str) -> schemas.Key:
    """A key without its secret. Raises NotFound."""
    key, owner = _named(session, key_id)
    return _to_schema(key, owner.name, now(session))


def me(session: Session, settings: Settings, asker: Principal) -> Me:
    """Who asks, and what is used of their quota."""
    kinds = {
        "images": quotas.images,
        "bytes": quotas.stored_bytes,
        "jobs": quotas.jobs,
        "uploads": quotas.uploads,
    }
    owner = session.get_one(Owner, asker.owner_id)
    used = {name: count(session, settings, owner) for name, count in kinds.items()}
    return Me.model_validate(
        {
            "owner": asker.owner_name,
            "key": read_key(session, asker.key_id),
            **{name: QuotaUsed(quota=one.quota, used=one.used) for name, one in used.items()},
        }
    )


def _named(session: Session, key_id: str) -> tuple[ApiKey, Owner]:
    found = _key_with_owner(session, key_id) if _ID_FORM.fullmatch(key_id) else None
    if found is None:
        raise NotFound(f"There is no key {key_id[:80]!r}; `datagen key list` shows them.")
    return found


def _made(session: Session, text: str) -> KeyMade:
    key = read_key(session, text.split("_")[1])
    return KeyMade(**key.model_dump(), key=text)


def _state(key: ApiKey, moment: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= moment else "valid"


def _to_schema(key: ApiKey, owner: str, moment: datetime) -> schemas.Key:
    told: dict[str, Any] = {"owner": owner, "state": _state(key, moment)}
    names = ("id", "scopes", "created_at", "expires_at", "revoked_at")
    return schemas.Key.model_validate({name: getattr(key, name) for name in names} | told)


def ensure_key(session: Session, plain_key: str, owner_name: str) -> None:
    """Accept a key that an administrator has chosen, for everything; safe to repeat.

    Raises:
        InvalidRequest: not of the form `dg_<id>_<secret>`, or its id is another key's.
    """
    found = _FORM.fullmatch(plain_key)
    if found is None:
        raise InvalidRequest(
            "DATAGEN_API_KEY has not the form dg_<id>_<secret>: up to 16 lower-case letters and "
            "digits, then at least 43 letters, digits, '_' and '-' that nobody can guess.",
            field="DATAGEN_API_KEY",
        )
    key_id, secret = found.groups()
    _add(session, key_id, secret, ensure_owner(session, owner_name), ("admin",), None)
    row = session.scalars(select(ApiKey).where(ApiKey.id == key_id)).one()
    if not hmac.compare_digest(row.secret_hash, _hash(secret)):
        raise InvalidRequest(
            f"The id {key_id!r} in DATAGEN_API_KEY is another key's; choose another one.",
            field="DATAGEN_API_KEY",
        )


def ensure_owner(session: Session, name: str) -> UUID:
    """The id of the owner of that name, who is made where there is none; safe at the same time."""
    insert_if_absent(session, Owner, id=new_id(), name=name, created_at=now(session))
    return session.scalars(select(Owner.id).where(Owner.name == name)).one()


def authenticate(session: Session, plain_key: str) -> Principal:
    """Who holds the key.

    Raises:
        Unauthorized: no such key, or one that was revoked or has expired.
    """
    found = _FORM.fullmatch(plain_key)
    row = None if found is None else _key_with_owner(session, found.group(1))
    kept = bytes(SECRET_BYTES) if row is None else row[0].secret_hash
    given = _hash("" if found is None else found.group(2))
    # Compared in any case, so that the time of the answer does not tell which ids exist.
    matches = hmac.compare_digest(kept, given)
    if row is None or not matches or row[0].revoked_at is not None:
        raise Unauthorized("The API key is not valid; see that it was copied whole.")
    key, owner = row
    if key.expires_at is not None and key.expires_at <= now(session):
        raise Unauthorized(f"The API key expired at {key.expires_at.isoformat()}; get a new one.")
    return Principal(owner.id, owner.name, key.id, frozenset(key.scopes))


def principal_of(session: Session, key_id: str) -> Principal:
    """Who holds the key of this id, which has been proven otherwise.

    Raises:
        Unauthorized: it was revoked, has expired, or is gone.
    """
    found = _key_with_owner(session, key_id)
    if found is None or _state(found[0], now(session)) != "valid":
        raise Unauthorized("The key that you signed in with is valid no longer; use another.")
    key, owner = found
    return Principal(owner.id, owner.name, key.id, frozenset(key.scopes))


def valid_scopes(session: Session, key_ids: Collection[str]) -> dict[str, frozenset[str]]:
    """Of these keys those that are valid now, and how far each of them reaches."""
    moment = now(session)
    rows = session.scalars(select(ApiKey).where(ApiKey.id.in_(sorted(key_ids))))
    return {row.id: frozenset(row.scopes) for row in rows if _state(row, moment) == "valid"}


def reaches(scopes: Collection[str], scope: str) -> bool:
    """Whether scopes reach as far as `scope`: admin does all, write also reads."""
    needed = SCOPES.index(scope)
    return any(SCOPES.index(held) >= needed for held in scopes)


def require(principal: Principal, scope: str) -> None:
    """Refuse a key that does not reach as far as `scope`: admin does all, write also reads.

    Raises:
        Forbidden: the key's scopes are smaller.
    """
    if not reaches(principal.scopes, scope):
        held_scopes = ", ".join(sorted(principal.scopes))
        raise Forbidden(f"This needs a key with the scope {scope!r}; yours has {held_scopes}.")


def _key_with_owner(session: Session, key_id: str) -> tuple[ApiKey, Owner] | None:
    row = session.execute(_WITH_OWNER, {"key_id": key_id}).one_or_none()
    return None if row is None else (row[0], row[1])


def _add(
    session: Session,
    key_id: str,
    secret: str,
    owner_id: UUID,
    scopes: Sequence[str],
    expires_at: datetime | None,
) -> None:
    insert_if_absent(
        session,
        ApiKey,
        id=key_id,
        owner_id=owner_id,
        secret_hash=_hash(secret),
        scopes=sorted(set(scopes)),
        created_at=now(session),
        expires_at=expires_at,
    )


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
