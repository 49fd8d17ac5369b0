"""API keys, for administrators; and who a key belongs to, for everybody."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from datagen.api.auth import ADMINS_ALONE, Admin, Knowing, Reader, ScopedRoute
from datagen.api.backends import Wired
from datagen.api.openapi import problems
from datagen.api.paging import Paged
from datagen.api.routes.jobs import Cursor, Limit
from datagen.db.session import reading, writing
from datagen.errors import Forbidden
from datagen.schemas import Key, KeyCreate, KeyMade, KeyRotate, Me, Page, SignInLink
from datagen.service import keys, sign_ins

router = APIRouter(
    prefix="/v1/keys", tags=["keys"], route_class=ScopedRoute, dependencies=[ADMINS_ALONE]
)
me_router = APIRouter(prefix="/v1/me", tags=["keys"], route_class=ScopedRoute)

KeyId = Annotated[str, Path(max_length=80, description="The part between `dg_` and the secret.")]


@router.post("", status_code=201, summary="Create a key", responses=problems())
def create_key(wanted: KeyCreate, answer: Response, backends: Wired) -> KeyMade:
    """Create a key, and its owner where there is none; the answer alone has the key's text."""
    with writing(backends.engine) as session:
        made = keys.create(session, wanted)
    answer.headers["Location"] = f"{router.prefix}/{made.id}"
    return made


@router.get("", summary="List keys, newest first", responses=problems())
def list_keys(
    backends: Wired,
    paging: Paged,
    owner: Annotated[str | None, Query(max_length=64, description="Only this owner's.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Key]:
    """Keys of all owners, in pages, without their secrets."""
    with reading(backends.engine) as session:
        return paging(keys.list_keys(session, owner=owner, limit=limit, cursor=cursor))


@router.get("/{key_id}", summary="Read a key", responses=problems(404))
def read_key(key_id: KeyId, backends: Wired) -> Key:
    """Owner, scopes and state of a key, without its secret."""
    with reading(backends.engine) as session:
        return keys.read_key(session, key_id)


@router.post("/{key_id}/revoke", summary="Revoke a key", responses=problems(404, 409))
def revoke_key(key_id: KeyId, backends: Wired, asker: Admin, callers: Knowing) -> Key:
    """End a key now; the one that asks cannot end itself."""
    with writing(backends.engine) as session:
        revoked = keys.revoke(session, asker, key_id)
    callers.forget()
    return revoked


@router.post(
    "/{key_id}/rotate", status_code=201, summary="Replace a key", responses=problems(404, 409)
)
def rotate_key(
    key_id: KeyId, wanted: KeyRotate, answer: Response, backends: Wired, callers: Knowing
) -> KeyMade:
    """A new key with owner, scopes and end of this one, which opens for `grace` seconds more."""
    with writing(backends.engine) as session:
        made = keys.rotate(session, key_id, wanted.grace)
    callers.forget()
    answer.headers["Location"] = f"{router.prefix}/{made.id}"
    return made


@me_router.get("", summary="Read who asks", responses=problems())
def read_me(backends: Wired, asker: Reader) -> Me:
    """Owner and scopes of the key that asks, and what is used of the owner's quota."""
    with reading(backends.engine) as session:
        return keys.me(session, backends.settings, asker)


@me_router.post(
    "/sign-in-links", status_code=201, summary="Get a link that signs in", responses=problems()
)
def create_sign_in_link(request: Request, backends: Wired, asker: Reader) -> SignInLink:
    """A link that signs a browser in to the web page once, within an hour, as the key's holder.

    A session gets none: it would outlive its own end.
    """
    if asker.session:
        raise Forbidden("A session creates no links that sign in; send Authorization: Bearer dg_….")
    with writing(backends.engine) as session:
        token, ends = sign_ins.make_link(session, asker)
    base = backends.settings.url or str(request.base_url)
    return SignInLink(url=f"{base.rstrip('/')}/sign-in/{token}", expires_at=ends)
