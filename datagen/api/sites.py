"""The session's cookie, and which pages may have a browser send it along with what changes things.

A browser sends cookies wherever a page has it post to, so a page of another site could change
things in the name of whoever looks at it. Browsers say where a request comes from.
"""

from __future__ import annotations

from starlette.requests import Request

from datagen.errors import Forbidden

COOKIE = "datagen_session"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def refuse_other_sites(request: Request) -> None:
    """Refuse what changes things and does not come from a page of ours. Raises Forbidden."""
    if request.method in _SAFE:
        return
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        is_ours = site == "same-origin"
    else:
        # An older browser; it names the origin at least.
        own = f"{request.url.scheme}://{request.headers.get('host', '')}"
        is_ours = request.headers.get("origin") == own
    if not is_ours:
        raise Forbidden(
            "The request comes from another site than this server's own pages; programs send a "
            "key in place of the cookie."
        )
