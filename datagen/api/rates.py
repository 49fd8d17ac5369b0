"""Rate limits by key, and of wrong keys by address: counted in the broker, by all processes.

They fail open: while the broker is away nobody is refused. Quotas do not; they are in the database.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address

from limits import RateLimitItem, WindowStats, parse
from limits.errors import StorageError
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from datagen.api.logs import log
from datagen.errors import TooManyRequests
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
    """The limits of one application; none where the settings name none."""

    def __init__(self, settings: Settings) -> None:
        self._limit = _parsed(settings.rate_limit)
        self._wrong_keys = _parsed(settings.wrong_key_limit)
        self._limiter: SlidingWindowCounterRateLimiter | None = None
        self._silent_until = 0.0
        if settings.broker_url is None:
            return
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
        """Whether requests of a key are limited."""
        return self._limiter is not None and self._limit is not None

    def take(self, key_id: str) -> Taken:
        """Count one request of a key."""
        limit = self._limit
        found = self._window(limit, "key", key_id)
        if limit is None or found is None:
            return NOTHING
        allowed, window = found
        seconds = _seconds_until(window)
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

    def count_wrong_key(self, address: str) -> None:
        """Count one wrong key that came from an address.

        Raises:
            TooManyRequests: more came than may.
        """
        limit = self._wrong_keys
        found = self._window(limit, "wrong-key", network_of(address))
        if limit is None or found is None or found[0]:
            return
        seconds = _seconds_until(found[1])
        raise TooManyRequests(
            f"More than {limit.amount} wrong keys came from your address within "
            f"{limit.get_expiry()} s; wait {seconds} s, or send a key that is valid.",
            retry_after=seconds,
        )

    def _window(
        self, limit: RateLimitItem | None, kind: str, name: str
    ) -> tuple[bool, WindowStats] | None:
        """Count one more: whether it is allowed, and the window; None where nobody counts."""
        limiter = self._limiter
        if limit is None or limiter is None or time.monotonic() < self._silent_until:
            return None
        try:
            allowed = limiter.hit(limit, kind, name)
            return allowed, limiter.get_window_stats(limit, kind, name)
        except StorageError as error:
            self._silent_until = time.monotonic() + PAUSE_SECONDS
            log.warning("rates_not_counted", error=str(error.__cause__ or error)[:200])
            return None


def _parsed(limit: str | None) -> RateLimitItem | None:
    return None if limit is None else parse(limit)


def _seconds_until(window: WindowStats) -> int:
    return max(1, math.ceil(window.reset_time - time.time()))


def network_of(address: str) -> str:
    """An address as it is counted: whoever has one of IPv6 has all of its /64."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return (
        str(IPv6Network((found, 64), strict=False)) if isinstance(found, IPv6Address) else address
    )
