"""Rate limits, by key: counted in the broker, so that all processes count together.

They fail open: while the broker is away nobody is refused. Quotas do not; they are in the database.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from datagen.api.logs import log
from datagen.queue import redis_url
from datagen.settings import Settings

ANSWER_SECONDS = 0.25
# After the broker failed, for so long nobody waits for it again.
PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class Taken:
    """What a request is told: the headers, and why it is refused where it is."""

    headers: Mapping[str, str]
    refusal: str | None = None


NOTHING = Taken({})


class Rates:
    """The limit of one application; none where the settings name none."""

    def __init__(self, settings: Settings) -> None:
        self._limit: RateLimitItem | None = None
        self._limiter: SlidingWindowCounterRateLimiter | None = None
        self._silent_until = 0.0
        if settings.rate_limit is None or settings.broker_url is None:
            return
        self._limit = parse(settings.rate_limit)
        url = redis_url(settings.broker_url)
        storage = RedisStorage(
            f"redis+{url}" if url.startswith("unix:") else url,
            wrap_exceptions=True,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
        )
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    @property
    def counts(self) -> bool:
        """Whether there is a limit."""
        return self._limiter is not None

    def take(self, key_id: str) -> Taken:
        """Count one request of a key."""
        limit, limiter = self._limit, self._limiter
        if limit is None or limiter is None or time.monotonic() < self._silent_until:
            return NOTHING
        try:
            allowed = limiter.hit(limit, "key", key_id)
            window = limiter.get_window_stats(limit, "key", key_id)
        except StorageError as error:
            self._silent_until = time.monotonic() + PAUSE_SECONDS
            log.warning("rates_not_counted", error=str(error.__cause__ or error)[:200])
            return NOTHING
        seconds = max(1, math.ceil(window.reset_time - time.time()))
        headers = {
            "RateLimit-Limit": str(limit.amount),
            "RateLimit-Remaining": str(max(0, window.remaining)),
            "RateLimit-Reset": str(seconds),
        }
        if allowed:
            return Taken(headers)
        refusal = (
            f"More than {limit.amount} requests came within {limit.get_expiry()} s; wait "
            f"{seconds} s, or have DATAGEN_RATE_LIMIT raised."
        )
        return Taken({**headers, "Retry-After": str(seconds)}, refusal)
