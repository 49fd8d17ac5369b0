"""How much an owner may have at once: one owner's places are nobody else's."""

from __future__ import annotations

import asyncio
import gc
from uuid import uuid4

from datagen.api.owner_limits import OwnerLimits


def test_owner_waits_for_a_place_of_its_own_and_nobody_else_does() -> None:
    limits, busy, quiet = OwnerLimits(2), uuid4(), uuid4()
    inside: list[object] = []
    leave = asyncio.Event()

    async def take(owner_id: object) -> None:
        async with limits.of(owner_id):  # type: ignore[arg-type] # a UUID
            inside.append(owner_id)
            await leave.wait()

    async def everybody() -> None:
        tasks = [asyncio.create_task(take(owner)) for owner in (busy, busy, busy, quiet)]
        while quiet not in inside:
            await asyncio.sleep(0)
        assert inside.count(busy) == 2
        leave.set()
        await asyncio.gather(*tasks)
        assert inside.count(busy) == 3

    asyncio.run(everybody())


def test_owner_without_requests_takes_no_memory() -> None:
    limits = OwnerLimits(1)

    async def take() -> None:
        for _ in range(100):
            async with limits.of(uuid4()):
                pass

    asyncio.run(take())
    gc.collect()
    assert len(limits._limiters) == 0
