"""Looking up hosts that users name: in threads of its own, and one of an owner's at once.

A name server that does not answer holds whoever waits for it; it must not hold other requests.
"""

from __future__ import annotations

from uuid import UUID

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from datagen.api.owner_limits import OwnerLimits
from datagen.service import addresses

MOST_AT_ONCE = 8


class Lookups:
    """The lookups of one application."""

    def __init__(self) -> None:
        self._all = CapacityLimiter(MOST_AT_ONCE)
        self._owners = OwnerLimits(1)

    async def refuse_inside(self, owner_id: UUID, url: str, field: str) -> None:
        """Refuse a URL whose host is one inside, when it is its owner's turn.

        Raises:
            InvalidRequest: the host has an address that is not public.
        """
        async with self._owners.of(owner_id):
            await run_sync(addresses.refuse_inside, url, field, limiter=self._all)
