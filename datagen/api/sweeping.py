"""Sweeping the temporary folders that killed processes have left on the API's machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from anyio.to_thread import run_sync

from datagen.api.logs import log
from datagen.scratch import sweep_scratch
from datagen.settings import Settings


@asynccontextmanager
async def sweeping(settings: Settings) -> AsyncIterator[None]:
    """Sweep now, and then every `settings.sweep_seconds`, while the block runs."""
    task = asyncio.create_task(_sweep_again_and_again(settings.sweep_seconds))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _sweep_again_and_again(seconds: float) -> None:
    while True:
        if removed := await run_sync(sweep_scratch):
            log.info("temporary folders of killed processes removed", removed=removed)
        await asyncio.sleep(seconds)
