"""Asking a worker and waiting for its answer: for previews alone, of which nothing is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from anyio import fail_after
from anyio.to_thread import run_sync

from datagen.api.backends import Backends
from datagen.api.owner_limits import OwnerLimits
from datagen.errors import InvalidRequest, QueueUnavailable, TooManyRequests, Unavailable
from datagen.queue import (
    ANSWER_SECONDS,
    PREVIEW,
    RUN_PREVIEW,
    WORKER_NAME,
    Message,
    redis_url,
)
from datagen.schemas import Made, PreviewWork

if TYPE_CHECKING:
    from redis.asyncio import Redis

CONNECT_SECONDS = 2.0
# Previews of one owner that workers have at once: those of others stand behind no more.
AT_ONCE = 4


@dataclass(frozen=True)
class Listener:
    """A worker that listens to the broker.

    Attributes:
        name: process and host.
        queues: that it takes messages from.
        idle_seconds: since the broker heard of it.
    """

    name: str
    queues: tuple[str, ...]
    idle_seconds: int


class Asking:
    """The connections over which one application asks workers."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._broker: Redis | None = None
        self._owners = OwnerLimits(AT_ONCE)

    async def ask(self, owner_id: UUID, work: PreviewWork) -> Made:
        """What a worker makes of it for an owner, whose other previews may come first.

        Raises:
            Unavailable: no worker listens, or none answered in time.
            TooManyRequests: the owner's other previews took all that time.
            InvalidRequest: what the worker refuses.
        """
        limiter, place = self._owners.of(owner_id), object()
        try:
            with fail_after(ANSWER_SECONDS):
                await limiter.acquire_on_behalf_of(place)
        except TimeoutError:
            raise TooManyRequests(
                f"{AT_ONCE} of your previews are being generated and others wait; try again when "
                "some are answered.",
                retry_after=1,
            ) from None
        try:
            return await self._ask(work)
        finally:
            limiter.release_on_behalf_of(place)

    async def _ask(self, work: PreviewWork) -> Made:
        from redis.exceptions import RedisError  # noqa: PLC0415 - most of the API does without

        broker = self._open()
        try:
            if not await self._workers(broker):
                raise Unavailable(
                    "No worker that makes images listens to the broker; start one with `datagen "
                    "worker`, or all with `datagen up`."
                )
            message = Message(RUN_PREVIEW, work.model_dump(mode="json"), expires=ANSWER_SECONDS)
            await run_sync(self._backends.send_now, message)
            answer = await broker.blpop([work.reply_to], timeout=ANSWER_SECONDS)
        except (RedisError, OSError) as error:
            raise QueueUnavailable(f"The broker does not answer ({error}).") from error
        if answer is None:
            raise Unavailable(
                f"No worker answered within {ANSWER_SECONDS} seconds: all are at work, or those "
                "that listen have no torch; try again."
            )
        made = Made.model_validate_json(answer[1])
        if made.error is not None:
            raise InvalidRequest(made.error)
        return made

    async def listeners(self) -> list[Listener]:
        """The workers that listen to the broker. Raises QueueUnavailable."""
        from redis.exceptions import RedisError  # noqa: PLC0415 - as above

        try:
            return await self._listeners(self._open())
        except (RedisError, OSError) as error:
            raise QueueUnavailable(f"The broker does not answer ({error}).") from error

    async def _listeners(self, broker: Redis) -> list[Listener]:
        """Connections that carry a worker's name; it tells the queues, and each worker has some."""
        found: dict[str, Listener] = {}
        for client in await broker.client_list():
            name = str(client["name"])
            if name.startswith(WORKER_NAME):
                called = name.removeprefix(WORKER_NAME)
                queues, _, process = called.rpartition("-")
                seconds = int(client.get("idle", 0))
                known = found.get(called)
                idle = seconds if known is None else min(seconds, known.idle_seconds)
                found[called] = Listener(process, tuple(queues.split("-")), idle)
        return sorted(found.values(), key=lambda one: (one.queues, one.name))

    async def _workers(self, broker: Redis) -> bool:
        """Whether a worker listens that takes such messages."""
        return any(PREVIEW in one.queues for one in await self._listeners(broker))

    def _open(self) -> Redis:
        url = self._backends.settings.broker_url
        if url is None:
            raise QueueUnavailable("DATAGEN_BROKER_URL names no broker.")
        if self._broker is None:
            from redis.asyncio import Redis  # noqa: PLC0415 - as above

            self._broker = Redis.from_url(
                redis_url(url),
                socket_connect_timeout=CONNECT_SECONDS,
                # Longer than any wait for an answer.
                socket_timeout=2.0 * ANSWER_SECONDS,
            )
        return self._broker

    async def close(self) -> None:
        """Close the connections."""
        if self._broker is not None:
            await self._broker.aclose()
