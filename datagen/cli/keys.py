"""`datagen key …`: create, list, revoke, rotate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from datagen.cli.connect import connected
from datagen.cli.jobs import Cursor, Limit, tell_of_more
from datagen.cli.output import AsJson, note, print_json, print_table, say, usage_error
from datagen.durations import seconds_of
from datagen.embedded import Workers

if TYPE_CHECKING:
    from datagen.schemas import Key, KeyMade, Scope

group = typer.Typer(
    name="key",
    help="API keys: create, list, revoke, rotate. All need an administrator's key.",
)

KeyId = Annotated[str, typer.Argument(metavar="KEY", help="Its id: the part after dg_.")]


@group.command("create")
def create_key(
    owner: Annotated[str, typer.Option(help="Whose it is; made where there is none of that name.")],
    scopes: Annotated[str, typer.Option(help="read, write or admin.")] = "read,write",
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long it is good for, such as 90d.")
    ] = None,
    quota_images: Annotated[
        int | None, typer.Option(min=0, help="Images that the owner may have, over all keys.")
    ] = None,
    quota_bytes: Annotated[
        int | None, typer.Option(min=0, help="Bytes that the owner may keep.")
    ] = None,
    quota_jobs: Annotated[
        int | None, typer.Option(min=0, help="Jobs of the owner that are at work at once.")
    ] = None,
    quota_uploads: Annotated[
        int | None, typer.Option(min=0, help="Versions of datasets that the owner may keep.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key, and show its text this once."""
    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    with connected(Workers.NONE) as connection:
        made = connection.client.keys.create(
            owner,
            cast("list[Scope]", wanted),
            expires_in=None if expires is None else _seconds(expires, "--expires"),
            quota_images=quota_images,
            quota_bytes=quota_bytes,
            quota_jobs=quota_jobs,
            quota_uploads=quota_uploads,
        )
    _show_made(made, as_json=as_json)


@group.command("list")
def list_keys(
    owner: Annotated[str | None, typer.Option(help="Only this owner's.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """List keys, newest first, without their secrets."""
    with connected(Workers.NONE) as connection:
        page = connection.client.keys.list(owner=owner, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    print_table(
        ["key", "owner", "scopes", "state", "created", "expires"], [_row(key) for key in page.items]
    )
    tell_of_more(page.next_cursor)


@group.command("revoke")
def revoke_key(key_id: KeyId, as_json: AsJson = False) -> None:
    """End a key now."""
    with connected(Workers.NONE) as connection:
        key = connection.client.keys.revoke(_id_of(key_id))
    print_json(key) if as_json else say(f"The key {key.id} of {key.owner} is {key.state}.")


@group.command("rotate")
def rotate_key(
    key_id: KeyId,
    grace: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long the former key still opens.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put a new key in the place of one, and show its text this once."""
    seconds = 0 if grace is None else _seconds(grace, "--grace")
    with connected(Workers.NONE) as connection:
        made = connection.client.keys.rotate(_id_of(key_id), grace=seconds)
    _show_made(made, as_json=as_json)


def _id_of(given: str) -> str:
    """The id, also where somebody pasted the whole key."""
    parts = given.split("_")
    return parts[1] if parts[0] == "dg" and parts[1:] else given


def _seconds(text: str, option: str) -> int:
    seconds = seconds_of(text)
    if seconds is None:
        raise usage_error(f"{option} is {text!r}; give a time such as 12h or 90d.")
    return max(1, round(seconds))


def _show_made(made: KeyMade, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    say(made.key)
    end = "" if made.expires_at is None else f", until {made.expires_at:%Y-%m-%d %H:%M} UTC"
    note(
        f"A key of {made.owner} for {', '.join(made.scopes)}{end}. "
        "Keep it now: it is not shown again."
    )


def _row(key: Key) -> tuple[object, ...]:
    end = "" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d %H:%M}"
    return (
        key.id,
        key.owner,
        ", ".join(key.scopes),
        key.state,
        f"{key.created_at:%Y-%m-%d %H:%M}",
        end,
    )
