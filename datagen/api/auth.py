"""Who asks: the key in `Authorization: Bearer dg_…`, and the scope that a route needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from datagen.api.backends import Wired
from datagen.api.rates import Rates
from datagen.db.session import reading
from datagen.errors import TooManyRequests, Unauthorized
from datagen.service import keys
from datagen.service.keys import Principal

_bearer = HTTPBearer(auto_error=False, description="An API key, `dg_<id>_<secret>`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def needs(scope: str) -> Callable[[Request, Wired, Credentials], Principal]:
    """A dependency: the principal of the request's key, which must reach `scope`."""

    def principal(request: Request, backends: Wired, credentials: Credentials) -> Principal:
        if credentials is None:
            raise Unauthorized("The request carries no key; send Authorization: Bearer dg_….")
        with reading(backends.engine) as session:
            found = keys.authenticate(session, credentials.credentials)
        rates: Rates = request.app.state.rates
        taken = rates.take(found.key_id)
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
