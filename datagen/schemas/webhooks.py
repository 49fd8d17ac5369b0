"""Webhooks: who is told of what has ended."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, Field

from datagen.schemas.base import Request, Resource, ShownOnce, State

Event = Literal[
    "job.succeeded", "job.failed", "job.cancelled",
    "export.succeeded", "export.failed", "export.cancelled",
    "model.succeeded", "model.failed", "model.cancelled",
    "report.succeeded", "report.failed", "report.cancelled",
    "run.succeeded", "run.failed", "run.cancelled",
]  # fmt: skip
EVENTS: tuple[Event, ...] = Event.__args__  # type: ignore[attr-defined] # a Literal's own words
PING = "ping"


def _usable(url: str) -> str:
    try:
        parts = urlsplit(url)
        # A zone of IPv6 is a network interface of the server.
        named = bool(parts.hostname) and "%" not in str(parts.hostname)
        usable = named and parts.port != 0 and parts.username is None
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("it names no host that could be posted to; give https://host/path")
    return url


Url = Annotated[
    str,
    AfterValidator(_usable),
    Field(
        min_length=8,
        max_length=2000,
        pattern=r"^https?://[!-~]+$",
        description="Where the server posts to; http or https.",
        examples=["https://ci.example/datagen"],
    ),
]


class WebhookCreate(Request):
    """A request to be notified."""

    url: Url
    events: list[Event] = Field(
        default_factory=lambda: list(EVENTS),
        min_length=1,
        max_length=len(EVENTS),
        description="All, if absent.",
    )
    named: bool = Field(
        default=False,
        description="Post of those jobs alone that name it in `webhook`, and of their exports.",
    )


class Webhook(Resource):
    """Where an owner is notified, and of what."""

    id: UUID
    url: str
    events: list[str]
    named: bool = Field(default=False, description="Of those jobs alone that name it.")
    created_at: datetime
    rotated_at: datetime | None = Field(
        description="When its secret was last replaced; the former one signs too for a day."
    )
    failures: int = Field(default=0, description="Deliveries that failed since one succeeded.")
    paused_until: datetime | None = Field(
        default=None,
        description="Until then nothing is posted, since several deliveries failed in a row; "
        "then one is posted to see whether the receiver answers.",
    )


class WebhookMade(Webhook):
    """A webhook with its secret, shown when it is made or replaced."""

    secret: ShownOnce = Field(
        description="`whsec_…`: signatures are made by it as standardwebhooks.com describes."
    )


class Delivery(Resource):
    """One telling, and what came of it."""

    id: UUID
    event: str
    resource_id: UUID = Field(description="What has ended, or the webhook itself for a ping.")
    state: State
    attempt: int
    status: int | None = Field(description="What the receiver answered last.")
    error: str | None
    next_attempt_at: datetime | None = Field(description="Null once it has ended.")
    created_at: datetime
    ended_at: datetime | None
