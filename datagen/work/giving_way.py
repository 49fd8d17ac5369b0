"""Giving way: long work that runs in slices ends one early where somebody waits for a worker."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from datagen.queue import Queue

LOOK_SECONDS = 0.5
# Seen at so many looks in a row: what another worker takes at once is no reason.
LOOKS = 3
# A slice lasts at least so long, and so many times as long as it took to begin, or those who wait
# all the time would keep it from getting anywhere.
LEAST_SECONDS = 5.0
TIMES_THE_BEGINNING = 10.0


@dataclass
class GivingWay:
    """Asked again and again by a slice, which ends where the answer is yes.

    Attributes:
        queue: where others may wait.
    """

    queue: Queue
    _began: float = field(default_factory=time.monotonic)
    _least: float | None = None
    _looked_at: float = 0.0
    _seen: int = 0

    def now(self) -> bool:
        """The same, of one look: asked seldom, between long steps."""
        began_to_count = self._least is not None and time.monotonic() >= self._least
        return began_to_count and self.queue.is_waited_for()

    def __call__(self) -> bool:
        """Whether to end the slice now."""
        moment = time.monotonic()
        if self._least is None:
            beginning = moment - self._began
            self._least = moment + max(LEAST_SECONDS, TIMES_THE_BEGINNING * beginning)
        if moment < self._least or moment - self._looked_at < LOOK_SECONDS:
            return self._seen >= LOOKS
        self._looked_at = moment
        self._seen = self._seen + 1 if self.queue.is_waited_for() else 0
        return self._seen >= LOOKS
