"""Queue: how the service tells workers that there is something to do.

A message is only a hint with an id in it. The database knows what is to be done, so a message that
is lost is sent again by `requeue_stale`, and one that comes twice is refused by the claim.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from datagen.errors import QueueUnavailable

RUN_BATCH = "datagen.run_batch"
RUN_EXPORT = "datagen.run_export"
REPAIR_BATCH = "datagen.repair_batch"
RUN_FIGURES = "datagen.run_figures"
RUN_REPORT = "datagen.run_report"
RUN_TRAINING = "datagen.run_training"
RUN_PREVIEW = "datagen.run_preview"
DELIVER = "datagen.deliver"
SETTLE_JOB = "datagen.settle_job"
REMOVE_JOBS = "datagen.remove_jobs"
RUN_DUE_PIPELINES = "datagen.run_due_pipelines"
ADVANCE_RUN = "datagen.advance_run"
RUN_STEP = "datagen.run_step"
MAKE_BATCHES = "datagen.make_batches"
REQUEUE_STALE = "datagen.requeue_stale"
SWEEP_STORAGE = "datagen.sweep_storage"

# Previews, which somebody waits for: every worker with torch looks here first.
PREVIEW = "preview"
# Batches of a few images that somebody waits for, done within a second.
QUICK = "quick"
INTERACTIVE = "interactive"
BULK = "bulk"
TRAIN = "train"
CONTROL = "control"
EXPORT = "export"
DELIVERIES = "deliver"
QUEUE_OF = {
    RUN_BATCH: BULK,
    REPAIR_BATCH: BULK,
    RUN_PREVIEW: PREVIEW,
    RUN_TRAINING: TRAIN,
    RUN_FIGURES: TRAIN,
    RUN_REPORT: TRAIN,
    RUN_EXPORT: EXPORT,
    # Sorts the digests of a whole job: long for the queue of the ticks.
    SETTLE_JOB: EXPORT,
    # Deletes what may be millions of rows.
    REMOVE_JOBS: EXPORT,
    # Waits for others' servers, which may never answer: nothing else waits behind that.
    DELIVER: DELIVERIES,
    # Reads datasets, and clears destinations.
    RUN_STEP: EXPORT,
    MAKE_BATCHES: CONTROL,
    RUN_DUE_PIPELINES: CONTROL,
    ADVANCE_RUN: CONTROL,
    REQUEUE_STALE: CONTROL,
    SWEEP_STORAGE: CONTROL,
}
# A process of its own for these answers within a second, whatever the others are at.
QUICK_QUEUES = (PREVIEW, QUICK)
# Small jobs are ended by the workers of the ticks, which need no torch.
QUICK_QUEUE_OF = {RUN_BATCH: QUICK, SETTLE_JOB: CONTROL}
TORCH_QUEUES = (*QUICK_QUEUES, INTERACTIVE, BULK, TRAIN)
# Long work gives way to these.
WAITED_FOR = (*QUICK_QUEUES, INTERACTIVE)
LIGHT_QUEUES = (CONTROL, EXPORT, DELIVERIES)

# How long somebody waits for what a worker answers directly, and an answer for somebody.
ANSWER_SECONDS = 10
# How long the broker may take to say whether somebody waits.
LOOK_SECONDS = 1.0
# A worker that died keeps an unacknowledged message for this long; no task may run half as long.
VISIBILITY_SECONDS = 3600
HARD_LIMIT_SECONDS = 1500

# Workers are not steered through the broker, but their connections to it carry a name that begins
# like this, so that `datagen doctor` can see who listens.
WORKER_NAME = "datagen-worker:"


def redis_url(broker_url: str) -> str:
    """The URL of a broker as redis-py reads it; Celery names sockets in another way."""
    return broker_url.replace("redis+socket://", "unix://", 1)


def queue_lengths(broker_url: str, names: Iterable[str], seconds: float) -> dict[str, int]:
    """How many messages wait in these queues; empty where the broker does not say so.

    Args:
        broker_url: as the settings have it.
        names: of the queues.
        seconds: how long the broker may take to answer.
    """
    from redis import Redis  # noqa: PLC0415 - as Celery below
    from redis.exceptions import RedisError  # noqa: PLC0415 - as Celery below

    try:
        with Redis.from_url(
            redis_url(broker_url), socket_timeout=seconds, socket_connect_timeout=seconds
        ) as broker:
            return {name: int(broker.llen(name)) for name in names}
    except (RedisError, OSError):
        return {}


@dataclass(frozen=True)
class Message:
    """One hint: the task's name, its JSON arguments, and whether somebody waits for it.

    What is urgent has a queue of its own, which workers look into in turn with the others, so that
    a few images do not wait behind the batches of millions; what is quick as well has another one,
    and processes that do nothing else. When such a message is lost, the next one is not urgent: it
    comes to workers that know only the usual queue, too. What expires is not looked at so many
    seconds later.
    """

    task: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    urgent: bool = False
    quick: bool = False
    expires: int | None = None

    @property
    def queue(self) -> str:
        """Name of the queue that the message goes to."""
        if self.urgent:
            return QUICK_QUEUE_OF[self.task] if self.quick else INTERACTIVE
        return QUEUE_OF[self.task]


class Queue(Protocol):
    """Where messages go."""

    def send(self, messages: Iterable[Message]) -> None:
        """Send all, in order.

        Raises:
            QueueUnavailable: the broker did not take a message; nothing need be undone.
        """

    def is_waited_for(self) -> bool:
        """Whether a message of interactive work waits; False where that is not known."""


class CeleryQueue:
    """Sends by task name through Celery, so that the sender need not know the workers' code."""

    def __init__(self, broker_url: str) -> None:
        from celery import Celery  # noqa: PLC0415 - 0.2 s that readers of the database need not pay

        self._broker_url = broker_url
        self._celery = Celery("datagen-sender", broker=broker_url, set_as_current=False)
        self._celery.conf.update(
            task_ignore_result=True,
            broker_connection_timeout=2.0,
            broker_transport_options={
                "visibility_timeout": VISIBILITY_SECONDS,
                "socket_connect_timeout": 2.0,
                "socket_timeout": 5.0,
            },
            task_publish_retry=False,
        )

    def send(self, messages: Iterable[Message]) -> None:
        """See `Queue.send`."""
        # As above. The pool of connections is used up where many wait for a broker that hangs.
        from kombu.exceptions import LimitExceeded, OperationalError  # noqa: PLC0415

        try:
            with self._celery.producer_pool.acquire(block=True, timeout=5.0) as producer:
                for message in messages:
                    self._celery.send_task(
                        message.task,
                        kwargs=dict(message.arguments),
                        queue=message.queue,
                        producer=producer,
                        ignore_result=True,
                        expires=message.expires,
                    )
        except LimitExceeded as error:
            raise _not_taken("all connections to it hang") from error
        except (OperationalError, OSError) as error:
            raise _not_taken(str(error)) from error

    def is_waited_for(self) -> bool:
        """See `Queue.is_waited_for`."""
        return any(queue_lengths(self._broker_url, WAITED_FOR, LOOK_SECONDS).values())


def _not_taken(reason: str) -> QueueUnavailable:
    return QueueUnavailable(
        f"The broker did not take a message ({reason}); the work is recorded and will be sent "
        "again when the broker is back."
    )


class MemoryQueue:
    """Keeps messages in the process; tests step it with `run_next`."""

    def __init__(self, tasks: Mapping[str, Callable[..., object]] | None = None) -> None:
        self.tasks = dict(tasks or {})
        self.waiting: deque[Message] = deque()

    def send(self, messages: Iterable[Message]) -> None:
        """See `Queue.send`."""
        self.waiting.extend(messages)

    def is_waited_for(self) -> bool:
        """See `Queue.is_waited_for`."""
        return any(message.queue in WAITED_FOR for message in self.waiting)

    def run_next(self) -> Message:
        """Run the oldest message's task; raises IndexError when none waits."""
        message = self.waiting.popleft()
        self.tasks[message.task](**message.arguments)
        return message

    def run_all(self) -> int:
        """Run until no message waits; returns how many ran."""
        ran = 0
        while self.waiting:
            self.run_next()
            ran += 1
        return ran
