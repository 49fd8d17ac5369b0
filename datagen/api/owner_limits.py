"""How much of one thing an owner may have at once, in one process of the API."""

from __future__ import annotations

from uuid import UUID
from weakref import WeakValueDictionary

from anyio import CapacityLimiter


class OwnerLimits:
    """A limiter for each owner, which lasts as long as somebody holds it or waits for it."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._limiters: WeakValueDictionary[UUID, CapacityLimiter] = WeakValueDictionary()

    def of(self, owner_id: UUID) -> CapacityLimiter:
        """The limiter of an owner; `async with` it."""
        found = self._limiters.get(owner_id)
        if found is None:
            found = self._limiters[owner_id] = CapacityLimiter(self._places)
        return found
