"""A worker that outlives its broker's restart, and rubbish in it: what the transport leaves open.

A worker that holds as many messages as it may, all of them in work, listens for no more. If the
broker is away at the moment when those tasks end, their acknowledgements fail, and the transport
goes on to count the messages as held: the worker never listens again, so that it does not even
notice that its connection is gone. It lives, and does nothing, for ever.
"""

from __future__ import annotations

from typing import Any

import structlog
from kombu.transport import redis, virtual
from kombu.utils.scheduling import round_robin_cycle

from datagen.queue import QUICK_QUEUES

log = structlog.get_logger()


class ForgettingQoS(redis.QoS):
    """Counts a message as done when its task is, whether or not the broker took note.

    One that did not comes to a worker once more when its time there is over. The claim in the
    database refuses it then, as it refuses any message that comes twice.
    """

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge; raises what the connection raises, with the message let go of."""
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except Exception:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Reject; raises what the connection raises, with the message let go of."""
        try:
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]
        except Exception:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            raise

    def restore_by_tag(
        self,
        tag: str,
        client: Any = None,
        leftmost: bool = False,
    ) -> None:
        """Give a message back whose worker fell silent; one that cannot be read is dropped.

        It was not ours, and the database knows what is to be done. Left there, it would end every
        worker that looks.
        """
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, LookupError, AttributeError):
            log.warning("message_dropped", tag=str(tag)[:80])
            self._remove_from_indices(tag).execute()  # type: ignore[no-untyped-call]


class QuickFirst(round_robin_cycle):
    """Queues in turn, but for previews and what is as quick: these are looked into first.

    What an owner may have in them at once is bounded, so that the others get their turns.
    """

    def consume(self, n: int) -> list[str]:
        """The first queues to look into; see kombu."""
        first = [name for name in QUICK_QUEUES if name in self.items]
        return [*first, *(name for name in self.items if name not in first)][:n]


def install() -> None:
    """Make it what channels to Redis use in this process; there is no setting for that."""
    redis.Channel.QoS = ForgettingQoS
