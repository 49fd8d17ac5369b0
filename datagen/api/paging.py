"""Pages of lists: `Link: <…>; rel="next"` beside the cursor in the body (RFC 8288)."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import Depends, Request, Response

from datagen.schemas import Page

Item = TypeVar("Item")


class Paging:
    """What a route answers a page with."""

    def __init__(self, request: Request, answer: Response) -> None:
        self._request, self._answer = request, answer

    def __call__(self, page: Page[Item]) -> Page[Item]:
        """The page, with a link to the one that follows it."""
        if page.next_cursor is not None:
            url = self._request.url.include_query_params(cursor=page.next_cursor)
            # A path, since a proxy in between may go by another name.
            self._answer.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return page


async def _paging(request: Request, answer: Response) -> Paging:
    # Not the class itself: FastAPI would have a thread make it.
    return Paging(request, answer)


Paged = Annotated[Paging, Depends(_paging)]
