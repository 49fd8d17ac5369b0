"""Looking up hosts that users name: in threads of its own, and one of an owner's at once.

A name server that does not answer holds whoever waits for it; it must not hold other requests.
"""

from __future__ import annotations

from uuid import UUID
from weakref import WeakValueDictionary

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from datagen.service import addresses

MOST_AT_ONCE = 8


class Lookups:
    """The lookups of one application."""

    def __init__(self) -> None:
        self._all = CapacityLimiter(MOST_AT_ONCE)
        self._owners: WeakValueDictionary[UUID, CapacityLimiter] = WeakValueDictionary()

    async def refuse_inside(self, owner_id: UUID, url: str, field: str) -> None:
        """Refuse a URL whose host is one inside, when it is its owner's turn.

        Raises:
            InvalidRequest: the host has an address that is not public.
        """
        own = self._owners.get(owner_id) or CapacityLimiter(1)
        self._owners[owner_id] = own
        async with own:
            await run_sync(addresses.refuse_inside, url, field, limiter=self._all)
