"""Webhooks: being told of what has ended."""

from __future__ import annotations

from uuid import UUID

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response

from datagen.api.auth import Reader, ScopedRoute, Writer
from datagen.api.backends import Wired
from datagen.api.lookups import Lookups
from datagen.api.openapi import problems
from datagen.api.paging import Paged
from datagen.api.routes.jobs import Cursor, Limit
from datagen.db.session import reading, writing
from datagen.schemas import Delivery, Page, Webhook, WebhookCreate, WebhookMade
from datagen.service import webhooks

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=ScopedRoute)


@router.post("", status_code=201, summary="Create a webhook", responses=problems(409))
async def create_webhook(
    wanted: WebhookCreate, request: Request, answer: Response, backends: Wired, asker: Writer
) -> WebhookMade:
    """Have a URL posted to whenever one of your jobs, exports, models or reports has ended.

    Signed as standardwebhooks.com describes, by the secret that this answer alone has; tried again
    for a day while nobody answers with a status of success.
    """

    def refuse_one_too_many() -> None:
        with reading(backends.engine) as session:
            webhooks.refuse_one_too_many(session, asker.owner_id)

    def create() -> WebhookMade:
        with writing(backends.engine) as session:
            return webhooks.create(session, asker.owner_id, wanted)

    if not backends.settings.webhooks_private:
        # A lookup may take its time: no transaction is open meanwhile.
        await run_sync(refuse_one_too_many)
        lookups: Lookups = request.app.state.lookups
        await lookups.refuse_inside(asker.owner_id, str(wanted.url), "url")
    made = await run_sync(create)
    answer.headers["Location"] = f"{router.prefix}/{made.id}"
    return made


@router.get("", summary="List webhooks", responses=problems())
def list_webhooks(backends: Wired, asker: Reader) -> Page[Webhook]:
    """All of yours, newest first."""
    with reading(backends.engine) as session:
        return webhooks.list_webhooks(session, asker.owner_id)


@router.get("/{webhook_id}", summary="Read a webhook", responses=problems(404))
def read_webhook(webhook_id: UUID, backends: Wired, asker: Reader) -> Webhook:
    """Where it posts to, and of what."""
    with reading(backends.engine) as session:
        return webhooks.read(session, asker.owner_id, webhook_id)


@router.delete(
    "/{webhook_id}", status_code=204, summary="Remove a webhook", responses=problems(404)
)
def remove_webhook(webhook_id: UUID, backends: Wired, asker: Writer) -> None:
    """Remove a webhook: nothing more is posted to it."""
    with writing(backends.engine) as session:
        webhooks.remove(session, asker.owner_id, webhook_id)


@router.post(
    "/{webhook_id}/rotate", status_code=201, summary="Replace the secret", responses=problems(404)
)
def rotate_webhook(webhook_id: UUID, backends: Wired, asker: Writer) -> WebhookMade:
    """A new secret; the former one signs beside it for a day."""
    with writing(backends.engine) as session:
        return webhooks.rotate(session, asker.owner_id, webhook_id)


@router.post(
    "/{webhook_id}/test", status_code=202, summary="Try a webhook", responses=problems(404, 429)
)
def try_webhook(webhook_id: UUID, backends: Wired, asker: Writer) -> Delivery:
    """Have a `ping` posted now, six times a minute at most; it goes to a paused receiver, too."""
    with writing(backends.engine) as session:
        delivery, messages = webhooks.ping(session, asker.owner_id, webhook_id)
    backends.send(messages)
    return delivery


@router.get("/{webhook_id}/deliveries", summary="List what was posted", responses=problems(404))
def list_deliveries(
    webhook_id: UUID,
    backends: Wired,
    paging: Paged,
    asker: Reader,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Delivery]:
    """Newest first, with what came of each; kept for 30 days."""
    with reading(backends.engine) as session:
        page = webhooks.list_deliveries(session, asker.owner_id, webhook_id, limit, cursor)
    return paging(page)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/resend",
    status_code=202,
    summary="Post again",
    responses=problems(404, 409),
)
def resend_delivery(
    webhook_id: UUID, delivery_id: UUID, backends: Wired, asker: Writer
) -> Delivery:
    """Post one of them again now, whatever came of it before."""
    with writing(backends.engine) as session:
        delivery, messages = webhooks.resend(session, asker.owner_id, webhook_id, delivery_id)
    backends.send(messages)
    return delivery
