"""`Client.webhooks`: being told of what has ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from datagen.client.transport import Transport, quoted
from datagen.schemas import Delivery, Event, Page, Webhook, WebhookMade


class Webhooks:
    """Create, list, try, rotate and remove webhooks, and read what was posted."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, url: str, events: Sequence[Event] | None = None, *, named: bool = False
    ) -> WebhookMade:
        """Have a URL posted to when something of yours has ended; all kinds by default.

        The answer has the only copy of the secret that signatures are made by.

        Args:
            url: where to.
            events: of what; all if None.
            named: of those jobs alone that name it in `webhook`, and of their exports.

        Raises:
            InvalidRequest: a URL or an event that cannot be one.
        """
        body: dict[str, Any] = {"url": url, "named": named}
        if events is not None:
            body["events"] = list(events)
        return self._transport.post("/v1/webhooks", WebhookMade, body)

    def list(self) -> Page[Webhook]:
        """All of yours, newest first."""
        return self._transport.get("/v1/webhooks", Page[Webhook])

    def get(self, webhook_id: UUID | str) -> Webhook:
        """One of yours. Raises NotFound."""
        return self._transport.get(f"/v1/webhooks/{quoted(webhook_id)}", Webhook)

    def rotate(self, webhook_id: UUID | str) -> WebhookMade:
        """A new secret; the former one signs beside it for a day. Raises NotFound."""
        return self._transport.post(f"/v1/webhooks/{quoted(webhook_id)}/rotate", WebhookMade)

    def remove(self, webhook_id: UUID | str) -> None:
        """Post nothing any more. Raises NotFound."""
        self._transport.delete(f"/v1/webhooks/{quoted(webhook_id)}")

    def test(self, webhook_id: UUID | str) -> Delivery:
        """Have a `ping` posted now. Raises NotFound."""
        return self._transport.post(f"/v1/webhooks/{quoted(webhook_id)}/test", Delivery)

    def deliveries(
        self, webhook_id: UUID | str, *, limit: int = 50, cursor: str | None = None
    ) -> Page[Delivery]:
        """One page of what was posted, newest first. Raises NotFound."""
        path = f"/v1/webhooks/{quoted(webhook_id)}/deliveries"
        return self._transport.get(path, Page[Delivery], limit=limit, cursor=cursor)

    def resend(self, webhook_id: UUID | str, delivery_id: UUID | str) -> Delivery:
        """Post one again now. Raises NotFound, or Conflict while it is being sent."""
        path = f"/v1/webhooks/{quoted(webhook_id)}/deliveries/{quoted(delivery_id)}/resend"
        return self._transport.post(path, Delivery)
