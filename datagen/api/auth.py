"""Who asks: the key in `Authorization: Bearer dg_…`, and the scope that a route needs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session

from datagen.api.backends import Backends
from datagen.api.rates import Rates
from datagen.api.sites import COOKIE, refuse_other_sites
from datagen.db.session import reading
from datagen.errors import TooManyRequests, Unauthorized
from datagen.service import keys, sign_ins
from datagen.service.keys import Principal

# For so long a key that was valid is not looked up again; after a revocation it opens no longer
# than that in other processes, and not at all in the one that revoked it.
KNOWN_SECONDS = 1.0
MOST_KNOWN = 1000

_bearer = HTTPBearer(auto_error=False, description="An API key, `dg_<id>_<secret>`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


class Callers:
    """Who holds which key; remembers those that asked a moment ago.

    Clients ask in bursts, and the way to the database through a thread costs as much as a small
    answer.
    """

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._known: dict[bytes, tuple[Principal, float]] = {}

    async def principal(self, plain_key: str) -> Principal:
        """Who holds a key. Raises Unauthorized."""
        return await self._remembered(plain_key, keys.authenticate)

    async def signed_in(self, text: str) -> Principal:
        """Whose session a cookie holds. Raises Unauthorized."""
        return await self._remembered(text, sign_ins.principal_of)

    async def _remembered(
        self, text: str, look_up: Callable[[Session, str], Principal]
    ) -> Principal:
        digest, moment = hashlib.sha256(text.encode()).digest(), time.monotonic()
        # Whoever is looked up while a key is revoked is noted where nobody looks any more.
        known = self._known
        principal, until = known.get(digest, (None, 0.0))
        if principal is None or moment >= until:
            principal = await run_sync(self._looked_up, text, look_up)
            if len(known) >= MOST_KNOWN:
                known.clear()
            known[digest] = principal, moment + KNOWN_SECONDS
        return principal

    def forget(self) -> None:
        """Look every key up again: one was revoked."""
        self._known = {}

    def _looked_up(self, text: str, look_up: Callable[[Session, str], Principal]) -> Principal:
        with reading(self._backends.engine) as session:
            return look_up(session, text)


async def callers_of(request: Request) -> Callers:
    """The callers of the application that serves the request."""
    found: Callers = request.app.state.callers
    return found


Knowing = Annotated[Callers, Depends(callers_of)]


async def _asker(request: Request, callers: Callers, credentials: Credentials) -> Principal:
    """Who asks: by a key, or from the web page by a session."""
    if credentials is not None:
        return await callers.principal(credentials.credentials)
    session = request.cookies.get(COOKIE)
    if session is None:
        raise Unauthorized("The request carries no key; send Authorization: Bearer dg_….")
    refuse_other_sites(request)
    return await callers.signed_in(session)


def needs(
    scope: str,
) -> Callable[[Request, Knowing, Credentials], Coroutine[Any, Any, Principal]]:
    """A dependency: the principal of the request's key, which must reach `scope`."""

    async def principal(request: Request, callers: Knowing, credentials: Credentials) -> Principal:
        found = await _asker(request, callers, credentials)
        rates: Rates = request.app.state.rates
        if rates.counts:
            taken = await run_sync(rates.take, found.key_id)
            request.state.rate = taken.headers
            if taken.refusal is not None:
                raise TooManyRequests(taken.refusal)
        keys.require(found, scope)
        return found

    return principal


Reader = Annotated[Principal, Depends(needs("read"))]
Writer = Annotated[Principal, Depends(needs("write"))]
_admin = Depends(needs("admin"))
Admin = Annotated[Principal, _admin]
ADMINS_ALONE = _admin
