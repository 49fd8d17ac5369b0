"""Lease: keeps a claim alive while work goes on, and tells the work when it was lost."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self
from uuid import UUID

import structlog
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError

from datagen.db.session import reading, writing
from datagen.errors import Cancelled
from datagen.service import claims
from datagen.settings import Settings

LOOK_SECONDS = 0.5

log = structlog.get_logger()


class Lease:
    """Renews a claim from a thread of its own, so that a long computation cannot starve it.

    A claim that ends early (cancelled, or taken over after the process was stopped for longer than
    the lease) makes `check` raise; the closing UPDATE would refuse it in any case.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        kind: type[claims.Claimable],
        row_id: UUID,
        attempt: int,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._kind = kind
        self._row_id = row_id
        self._attempt = attempt
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._looked_at = time.monotonic()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Look, at most twice a second, whether the claim still stands.

        Raises:
            Cancelled: the row was cancelled, or is somebody else's by now.
        """
        moment = time.monotonic()
        if moment - self._looked_at >= LOOK_SECONDS:
            self._looked_at = moment
            with reading(self._engine) as session:
                held = claims.held(self._kind, self._row_id, self._attempt)
                if session.execute(select(self._kind.id).where(held)).first() is None:
                    self._lost.set()
        if self._lost.is_set():
            raise Cancelled(f"{self._kind.__name__} {self._row_id} was cancelled or taken over.")

    def _renew(self) -> None:
        while not self._stop.wait(self._settings.lease_seconds / 3):
            try:
                with writing(self._engine) as session:
                    kept = claims.renew(
                        session, self._settings, self._kind, self._row_id, self._attempt
                    )
            except OperationalError as error:
                # The database may be restarting; the lease has two more tries before it ends.
                log.warning("lease_not_renewed", row=str(self._row_id), error=str(error.orig))
                continue
            if not kept:
                self._lost.set()
                return
