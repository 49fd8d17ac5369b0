"""`datagen webhook …`: create, list, test, rotate, deliveries, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from datagen.cli.connect import connected
from datagen.cli.jobs import Cursor, Limit, tell_of_more
from datagen.cli.output import AsJson, note, print_json, print_table, say
from datagen.embedded import Workers

if TYPE_CHECKING:
    from datagen.schemas import Event, Webhook

group = typer.Typer(
    name="webhook",
    help="Notification of what has ended: create, list, test, rotate, deliveries, remove.",
)

WebhookId = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Its id.")]


@group.command("create")
def create_webhook(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to post to.")],
    events: Annotated[
        str | None,
        typer.Option(metavar="EVENT,…", help="Such as job.succeeded,job.failed; all by default."),
    ] = None,
    named: Annotated[
        bool,
        typer.Option("--named", help="Of those jobs alone that name it: generate --webhook ID."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Have a URL posted to when something has ended, and show its secret this once."""
    wanted = None if events is None else [one.strip() for one in events.split(",")]
    with connected(Workers.NONE) as connection:
        made = connection.client.webhooks.create(
            url, cast("list[Event] | None", wanted), named=named
        )
    if as_json:
        print_json(made)
        return
    say(f"{made.id} {made.secret}")
    note("Signatures are made by this secret. Keep it now: it is not shown again.")


@group.command("list")
def list_webhooks(as_json: AsJson = False) -> None:
    """List yours, newest first."""
    with connected(Workers.NONE) as connection:
        page = connection.client.webhooks.list()
    if as_json:
        print_json(page)
        return
    print_table(
        ["webhook", "url", "events", "created", "receiver"],
        [
            (
                hook.id,
                hook.url,
                ", ".join(hook.events),
                f"{hook.created_at:%Y-%m-%d %H:%M}",
                receiver_of(hook),
            )
            for hook in page.items
        ],
    )


def receiver_of(hook: Webhook) -> str:
    """How the receiver does, in a few words."""
    if hook.paused_until is not None:
        return f"paused until {hook.paused_until:%H:%M} UTC after {hook.failures} failures"
    return f"failed {hook.failures} times" if hook.failures else "ok"


@group.command("test")
def ping(webhook_id: WebhookId, as_json: AsJson = False) -> None:
    """Have a ping posted now."""
    with connected() as connection:
        sent = connection.client.webhooks.test(webhook_id)
    print_json(sent) if as_json else say(
        f"A ping is posted; look at it with: datagen webhook deliveries {webhook_id}"
    )


@group.command("rotate")
def rotate_webhook(webhook_id: WebhookId, as_json: AsJson = False) -> None:
    """Replace the secret; the former one signs beside it for a day."""
    with connected(Workers.NONE) as connection:
        made = connection.client.webhooks.rotate(webhook_id)
    print_json(made) if as_json else say(made.secret)


@group.command("deliveries")
def list_deliveries(
    webhook_id: WebhookId, limit: Limit = 50, cursor: Cursor = None, as_json: AsJson = False
) -> None:
    """List what was posted, newest first, and what came of it."""
    with connected(Workers.NONE) as connection:
        page = connection.client.webhooks.deliveries(webhook_id, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    print_table(
        ["delivery", "event", "state", "attempts", "status", "error"],
        [
            (one.id, one.event, one.state, one.attempt, one.status or "", one.error or "")
            for one in page.items
        ],
    )
    tell_of_more(page.next_cursor)


@group.command("remove")
def remove_webhook(webhook_id: WebhookId, as_json: AsJson = False) -> None:
    """Remove a webhook."""
    with connected(Workers.NONE) as connection:
        connection.client.webhooks.remove(webhook_id)
    print_json({"removed": webhook_id}) if as_json else say(f"Webhook {webhook_id} is removed.")
