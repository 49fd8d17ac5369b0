"""Having uploads read: a few at a time, and no longer than their clients wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from anyio import CapacityLimiter, create_task_group
from anyio.to_thread import run_sync
from fastapi import Request
from starlette.requests import ClientDisconnect

from datagen.api.owner_limits import OwnerLimits
from datagen.errors import Cancelled
from datagen.service.reader import FileReader
from datagen.settings import Settings

Result = TypeVar("Result")


class Readings:
    """The readings of one application."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._all = CapacityLimiter(settings.readers)
        # One place stays for the others, where there are several.
        self._owners = OwnerLimits(max(1, settings.readers - 1))

    async def read(
        self, request: Request, owner_id: UUID, work: Callable[[FileReader], Result]
    ) -> Result:
        """Do work with a reader in a thread, when it is its turn.

        Args:
            request: whose body has come; where its client goes away, the reader is ended.
            owner_id: who uploads.
            work: what is done.

        Raises:
            ClientDisconnect: the client went away.
            Exception: as the work raises it.
        """
        stop = threading.Event()
        reader = FileReader(self._settings, lambda: _check(stop))
        done: list[Result] = []
        failed: list[Exception] = []

        def worked() -> None:
            try:
                done.append(work(reader))
            except Exception as error:  # noqa: BLE001 - a task group would wrap it
                failed.append(error)

        async with create_task_group() as tasks:

            async def watch() -> None:
                try:
                    while (await request.receive())["type"] != "http.disconnect":
                        pass
                finally:
                    stop.set()
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            async with self._owners.of(owner_id):
                await run_sync(worked, limiter=self._all)
            tasks.cancel_scope.cancel()
        if done:
            return done[0]
        if failed and not isinstance(failed[0], Cancelled):
            raise failed[0]
        raise ClientDisconnect


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise Cancelled("The client went away before its upload was read.")
