"""Who sends a request: the key in `Authorization: Bearer dg_…` or a session, and the scope needed.

Every route under /v1 is a `ScopedRoute`: who asks, how often, and how far the key reaches is looked
at before a byte of the body is read, and before a stored answer is given again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session
from starlette.types import Receive, Scope, Send

from datagen.api.backends import Backends
from datagen.api.errors import problem_response, unknown_parameter
from datagen.api.rates import Rates
from datagen.api.replays import HEADER, Replays, identify, shows_secret
from datagen.api.sites import COOKIE, refuse_other_sites
from datagen.db.session import reading
from datagen.errors import DatagenError, TooManyRequests, Unauthorized
from datagen.service import keys, sign_ins
from datagen.service.keys import SCOPES, Principal

# For so long a key that was valid is not looked up again; after a revocation it opens no longer
# than that in other processes, and not at all in the one that revoked it.
KNOWN_SECONDS = 1.0
# A key that was wrong stays so: asking again and again with it costs no look into the database.
WRONG_SECONDS = 10.0
MOST_KNOWN = 1000

_bearer = HTTPBearer(auto_error=False, description="An API key, `dg_<id>_<secret>`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


class Callers:
    """Who holds which key or session; remembers those that asked a moment ago.

    Clients ask in bursts, and the way to the database through a thread costs as much as a small
    answer.
    """

    def __init__(self, backends: Backends, rates: Rates) -> None:
        self._backends, self._rates = backends, rates
        self._known: dict[bytes, tuple[Principal, float]] = {}
        self._wrong: dict[bytes, tuple[str, float]] = {}

    async def by_key(self, request: Request, plain_key: str) -> Principal:
        """Who holds a key. Raises Unauthorized, TooManyRequests."""
        return await self._remembered(request, plain_key, keys.authenticate)

    async def by_session(self, request: Request, text: str) -> Principal:
        """Whose session a cookie holds. Raises Unauthorized, TooManyRequests."""
        return await self._remembered(request, text, sign_ins.principal_of)

    async def _remembered(
        self, request: Request, text: str, look_up: Callable[[Session, str], Principal]
    ) -> Principal:
        # A key that is sent as a session is none, and neither is a session that is sent as a key.
        known_as = f"{look_up.__name__} {text}"
        digest = hashlib.sha256(known_as.encode(errors="replace")).digest()
        moment = time.monotonic()
        # Whoever is looked up while a key is revoked is noted where nobody looks any more.
        known, wrong = self._known, self._wrong
        principal, until = known.get(digest, (None, 0.0))
        if principal is not None and moment < until:
            return principal
        reason, until = wrong.get(digest, ("", 0.0))
        if moment < until:
            raise Unauthorized(reason)
        try:
            principal = await run_sync(self._looked_up, text, look_up)
        except Unauthorized as error:
            _remember(wrong, digest, (error.detail, moment + WRONG_SECONDS))
            # A right key opens however many wrong ones came: nobody is locked out by a neighbour.
            await run_sync(self._rates.count_wrong_key, _address(request))
            raise
        _remember(known, digest, (principal, moment + KNOWN_SECONDS))
        return principal

    def forget(self) -> None:
        """Look every key and session up again: one was revoked or has ended."""
        self._known = {}

    def _looked_up(self, text: str, look_up: Callable[[Session, str], Principal]) -> Principal:
        with reading(self._backends.engine) as session:
            return look_up(session, text)


def _remember(known: dict[bytes, Any], digest: bytes, value: object) -> None:
    if len(known) >= MOST_KNOWN:
        known.clear()
    known[digest] = value


def _address(request: Request) -> str:
    return "unknown" if request.client is None else request.client.host


async def callers_of(request: Request) -> Callers:
    """The callers of the application that serves the request."""
    found: Callers = request.app.state.callers
    return found


Knowing = Annotated[Callers, Depends(callers_of)]


async def authenticate(request: Request) -> Principal:
    """Who sends a request: by a key, or from the web page by a session.

    Raises:
        Unauthorized: nobody that is known.
        Forbidden: a page of another site had a browser send it.
        TooManyRequests: too many wrong keys came from the address.
    """
    callers = await callers_of(request)
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return await callers.by_key(request, text.strip())
    session = request.cookies.get(COOKIE)
    if session is None:
        raise Unauthorized("The request carries no key; send Authorization: Bearer dg_….")
    refuse_other_sites(request)
    return await callers.by_session(request, session)


async def admit(request: Request, scope: str) -> Principal:
    """Who sends a request, counted once and refused where its key does not reach far enough.

    Args:
        request: asked as often as one likes; it is looked at once.
        scope: that is needed.

    Raises:
        Unauthorized: nobody that is known.
        TooManyRequests: the key has sent more than it may.
        Forbidden: the key does not reach as far as `scope`.
    """
    found: Principal | None = getattr(request.state, "principal", None)
    if found is None:
        found = await authenticate(request)
        rates: Rates = request.app.state.rates
        if rates.counts:
            taken = await run_sync(rates.take, found.key_id)
            request.state.rate = taken.headers
            if taken.refusal is not None:
                raise TooManyRequests(taken.refusal)
        request.state.principal = found
    keys.require(found, scope)
    return found


class RequireScope:
    """A dependency: the principal of the request, whose key must reach `scope`."""

    def __init__(self, scope: str) -> None:
        self.scope = scope

    async def __call__(self, request: Request, credentials: Credentials) -> Principal:
        """See `admit`; the framework shows the credentials in the OpenAPI document."""
        del credentials
        return await admit(request, self.scope)


class ScopedRoute(APIRoute):
    """A route that admits a request before it reads the body, and answers repeats once done.

    The scope is the widest that its dependencies need; a route without one admits everybody.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.needed_scope = max(_scopes_in(self.dependant), key=SCOPES.index, default=None)
        self.query_names = frozenset(_query_names_in(self.dependant))
        self.shows_secret = shows_secret(self.response_model)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request that has this path."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            asker = None
            if self.needed_scope is not None:
                asker = await admit(request, self.needed_scope)
            self._refuse_unknown(request)
        except DatagenError as error:
            await problem_response(error)(scope, receive, send)
            return
        key = request.headers.get(HEADER)
        if asker is None or key is None or scope["method"] != "POST":
            await super().handle(scope, receive, send)
            return
        replays: Replays = request.app.state.replays
        identified = identify(asker, str(self.needed_scope), key, request, secret=self.shows_secret)
        await replays.serve(identified, super().handle, scope, receive, send)

    def _refuse_unknown(self, request: Request) -> None:
        """Refuse a parameter that is misspelt, as a dry run that is none. Raises InvalidRequest."""
        for name in request.query_params:
            if name not in self.query_names:
                raise unknown_parameter(name, self.query_names)


def _scopes_in(dependant: Dependant) -> set[str]:
    found = {dependant.call.scope} if isinstance(dependant.call, RequireScope) else set()
    return found.union(*(_scopes_in(inner) for inner in dependant.dependencies))


def _query_names_in(dependant: Dependant) -> set[str]:
    found = {one.alias for one in dependant.query_params}
    return found.union(*(_query_names_in(inner) for inner in dependant.dependencies))


_admin = Depends(RequireScope("admin"))
Reader = Annotated[Principal, Depends(RequireScope("read"))]
Writer = Annotated[Principal, Depends(RequireScope("write"))]
Admin = Annotated[Principal, _admin]
ADMINS_ALONE = _admin
