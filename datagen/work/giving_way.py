"""Giving way: long work that runs in slices ends one early where somebody waits for a worker."""

from __future__ import annotations

import math
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
    """Whether a slice is to end for somebody who waits. Created when the slice reads what it needs.

    Attributes:
        queue: where others may wait.
    """

    queue: Queue
    _created: float = field(default_factory=time.monotonic)
    _least: float = math.inf
    _looked_at: float = 0.0
    _seen: int = 0

    def begin(self) -> None:
        """Note that the slice has all that it needs, and makes progress from now on.

        It gives way to nobody before, nor for a while after.
        """
        moment = time.monotonic()
        beginning = moment - self._created
        self._least = moment + max(LEAST_SECONDS, TIMES_THE_BEGINNING * beginning)

    def should_yield(self) -> bool:
        """Whether to end the slice now; for work that asks again and again."""
        moment = time.monotonic()
        if moment >= self._least and moment - self._looked_at >= LOOK_SECONDS:
            self._looked_at = moment
            self._seen = self._seen + 1 if self.queue.is_waited_for() else 0
        return self._seen >= LOOKS

    def should_yield_at_once(self) -> bool:
        """Whether to end the slice now, by a single look; for work that asks between long steps."""
        return time.monotonic() >= self._least and self.queue.is_waited_for()
