"""API keys: who asks, and how far their key reaches.

A key is `dg_<id>_<secret>`. The secret is 256 random bits, so one round of SHA-256 is enough to
keep it: there is nothing to guess, unlike with a password.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen.db.session import now
from datagen.db.tables import ApiKey, Owner, new_id
from datagen.errors import Forbidden, InvalidRequest, Unauthorized
from datagen.service.common import insert_if_absent

SCOPES = ("read", "write", "admin")
SECRET_BYTES = 32
_ID_BYTES = 6
_FORM = re.compile(r"dg_([0-9a-z]{1,16})_([0-9A-Za-z_-]{43,128})", re.ASCII)


@dataclass(frozen=True)
class Principal:
    """Who asks, by which key."""

    owner_id: UUID
    owner_name: str
    key_id: str
    scopes: frozenset[str]


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


def require(principal: Principal, scope: str) -> None:
    """Refuse a key that does not reach as far as `scope`: admin does all, write also reads.

    Raises:
        Forbidden: the key's scopes are smaller.
    """
    needed = SCOPES.index(scope)
    if not any(SCOPES.index(held) >= needed for held in principal.scopes):
        held_scopes = ", ".join(sorted(principal.scopes))
        raise Forbidden(f"This needs a key with the scope {scope!r}; yours has {held_scopes}.")


def _key_with_owner(session: Session, key_id: str) -> tuple[ApiKey, Owner] | None:
    row = session.execute(
        select(ApiKey, Owner).join(Owner, Owner.id == ApiKey.owner_id).where(ApiKey.id == key_id)
    ).one_or_none()
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
