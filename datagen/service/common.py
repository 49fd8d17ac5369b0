"""What the use cases share: finding things for their owner, and paging."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Select, bindparam, case, func, inspect, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from datagen.db.tables import (
    Dataset,
    Export,
    Job,
    Model,
    Owner,
    Pipeline,
    Report,
    Run,
    Table,
)
from datagen.errors import Conflict, InvalidRequest, NotFound
from datagen.schemas.base import within_calendar
from datagen.texts import unfit_character

MAX_PAGE = 1000

Owned = TypeVar("Owned", Job, Export, Report, Run)
Versioned = TypeVar("Versioned", Dataset, Model)
Listed = TypeVar("Listed", Dataset, Model, Export, Report, Pipeline, Run)


def parse_id(text: str) -> UUID | None:
    """The UUID that a text spells, if it does."""
    try:
        return UUID(text)
    except ValueError:
        return None


def owned(session: Session, kind: type[Owned], owner_id: UUID, row_id: UUID) -> Owned:
    """A row of the owner's.

    Raises:
        NotFound: no such row, or another owner's.
    """
    row = session.get(kind, row_id)
    removed = isinstance(row, Job) and row.removed_at is not None
    if row is None or row.owner_id != owner_id or removed:
        raise NotFound(f"There is no {kind.__name__.lower()} {row_id}.")
    return row


def insert_if_absent(session: Session, kind: type[Table], **values: Any) -> bool:
    """Write a row, unless a unique value of it is taken; several processes may do so at once.

    Returns whether it was written.
    """
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    key = inspect(kind).primary_key[0]
    done = session.execute(insert(kind).values(values).on_conflict_do_nothing().returning(key))
    return done.first() is not None


def _wanted(reference: str) -> dict[str, Any] | None:
    """What `name`, `name@version` or an id asks for; None where it can be none of them."""
    row_id = parse_id(reference)
    if row_id is not None:
        return {"id": row_id}
    name, _, version = reference.partition("@")
    if "\0" in name:
        # No name has it, and PostgreSQL refuses even to look.
        return None
    if not version:
        return {"name": name}
    if not version.isascii() or not version.isdigit() or len(version) > 9:  # noqa: PLR2004 - int32
        return None
    return {"name": name, "version": int(version)}


@cache
def _versions(kind: type[Versioned], names: tuple[str, ...]) -> Select[Versioned]:
    """The query for what `_wanted` names, the latest first; made once a kind of question."""
    asked = [getattr(kind, name) == bindparam(name) for name in names]
    return select(kind).where(*asked, kind.removed_at.is_(None)).order_by(kind.version.desc())


@cache
def _visible(names: tuple[str, ...], *, usable: bool) -> Select[Model]:
    """The query for a model that an owner may use."""
    mine, public = Model.owner_id == bindparam("owner_id"), Model.visibility == "public"
    query = _versions(Model, names).where(or_(mine, public))
    if usable:
        query = query.where(Model.state == "succeeded")
    # Before their versions: the owner's oldest is meant before another's latest.
    own_first = case((mine, 0), else_=1)
    return query.order_by(None).order_by(own_first, Model.version.desc()).limit(1)


def find_dataset(session: Session, owner_id: UUID, reference: str) -> Dataset:
    """A dataset by `name` (the latest version), `name@version` or id.

    Raises:
        NotFound: the owner has none such.
    """
    row = _owned_version(session, Dataset, owner_id, reference)
    if row is None:
        raise NotFound(f"There is no dataset {reference!r}; `datagen dataset list` shows them.")
    return row


def _owned_version(
    session: Session, kind: type[Versioned], owner_id: UUID, reference: str
) -> Versioned | None:
    wanted = _wanted(reference)
    if wanted is None:
        return None
    query = _versions(kind, tuple(wanted)).where(kind.owner_id == owner_id).limit(1)
    row: Versioned | None = session.scalar(query, wanted)
    return row


def find_model(session: Session, owner_id: UUID, reference: str, *, usable: bool = False) -> Model:
    """A model by `name` (the latest version), `name@version` or id: the owner's or a public one.

    With `usable`, a bare name means the latest version whose training has succeeded. Where the
    owner has a model of a public one's name, the owner's is meant.

    Raises:
        NotFound: there is none such, or with `usable` none that is trained.
    """
    wanted = _wanted(reference)
    row = None
    if wanted is not None:
        names = tuple(wanted)
        query = _visible(names, usable=usable and names == ("name",))
        row = session.scalar(query, wanted | {"owner_id": owner_id})
    if row is None and usable and wanted is not None:
        untrained = session.scalar(_visible(names, usable=False), wanted | {"owner_id": owner_id})
        if untrained is not None:
            raise NotFound(
                f"The model {reference!r} has no trained version: its latest is {untrained.state}; "
                "wait until its training has succeeded, or train it again."
            )
    if row is None:
        raise NotFound(f"There is no model {reference!r}; `datagen model list` shows them.")
    return row


def models_named(session: Session, owner_id: UUID, reference: str) -> list[UUID]:
    """Ids of the models that a name means, in all versions; or the one of `name@version` or an id.

    Raises:
        NotFound: there is none such.
    """
    one = find_model(session, owner_id, reference)
    if "@" in reference or parse_id(reference) is not None:
        return [one.id]
    visible = or_(Model.owner_id == owner_id, Model.visibility == "public")
    return list(session.scalars(select(Model.id).where(Model.name == one.name, visible)))


def the_only_version(
    session: Session, kind: type[Versioned], owner_id: UUID, reference: str
) -> Versioned:
    """A row of the owner's that is to be removed: a bare name must have one version only.

    Raises:
        NotFound: the owner has none such.
        Conflict: the name has several versions.
    """
    word = kind.__name__.lower()
    row = _owned_version(session, kind, owner_id, reference)
    if row is None:
        raise NotFound(f"There is no {word} {reference!r} of yours; `datagen {word} list` helps.")
    if "@" not in reference and parse_id(reference) is None:
        versions = session.scalars(
            select(kind.version)
            .where(kind.owner_id == owner_id, kind.name == row.name, kind.removed_at.is_(None))
            .order_by(kind.version)
        ).all()
        if len(versions) > 1:
            named = ", ".join(f"{row.name}@{version}" for version in versions)
            raise Conflict(
                f"The {word} {row.name!r} has {len(versions)} versions ({named}); name the one "
                "that is to go."
            )
    return row


def lock_owner(session: Session, owner_id: UUID) -> Owner:
    """The owner's row, locked, so that requests that come together are counted one by one.

    Whatever an owner may have so many of is counted after this, and written before the commit.
    """
    # By key_share those who write rows of the owner's, whose foreign keys lock the row too, neither
    # wait for this lock nor are waited for.
    mode = {"key_share": True}
    return session.get_one(Owner, owner_id, with_for_update=mode, populate_existing=True)


def next_version(session: Session, kind: type[Dataset | Model], owner_id: UUID, name: str) -> int:
    """The version that a new row of this name gets; whoever asks meanwhile waits for the commit."""
    lock_owner(session, owner_id)
    latest = session.scalar(
        select(func.max(kind.version)).where(kind.owner_id == owner_id, kind.name == name)
    )
    return (latest or 0) + 1


def image_shape(source: Dataset | Model) -> tuple[int, int, int]:
    """Channels, height and width of its images."""
    channels, height, width = source.image_shape
    return channels, height, width


def split_digests(dataset: Dataset | None) -> dict[str, str | None]:
    """The splits of a dataset, each with the SHA-256 of its file where that was noted."""
    if dataset is None:
        return {}
    return dict.fromkeys(dataset.counts) | dict((dataset.report or {}).get("files", {}))


def page_of(
    session: Session, query: Select[Any], kind: type[Listed], limit: int, cursor: str | None
) -> tuple[list[Listed], str | None]:
    """The rows of one page, newest first, and the cursor of the next.

    Raises:
        InvalidRequest: a bad cursor.
    """
    if cursor is not None:
        query = query.where(kind.id < decode_id_cursor(cursor))
    limit = min(limit, MAX_PAGE)
    rows = list(session.scalars(query.order_by(kind.id.desc()).limit(limit + 1)))
    following = encode_cursor(str(rows[limit - 1].id)) if len(rows) > limit else None
    return rows[:limit], following


def encode_cursor(position: Any) -> str:
    """An opaque text that says where the next page begins."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> Any:
    """The position that `encode_cursor` was given.

    Raises:
        InvalidRequest: not a cursor of ours.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, binascii.Error, RecursionError):
        raise bad_cursor(cursor) from None


def decode_id_cursor(cursor: str) -> UUID:
    """The id that a list's cursor holds. Raises InvalidRequest."""
    position = decode_cursor(cursor)
    row_id = parse_id(position) if isinstance(position, str) else None
    if row_id is None:
        raise bad_cursor(cursor)
    return row_id


def decode_index_cursor(cursor: str) -> int:
    """The sample index that a cursor holds. Raises InvalidRequest."""
    position = decode_cursor(cursor)
    # To Python, true is 1.
    if isinstance(position, bool) or not isinstance(position, int) or not 0 <= position < 2**63:
        raise bad_cursor(cursor)
    return position


def decode_moment_cursor(cursor: str) -> tuple[datetime, str]:
    """The moment and the text that a cursor holds. Raises InvalidRequest."""
    position = decode_cursor(cursor)
    if not isinstance(position, list) or [type(part) for part in position] != [str, str]:
        raise bad_cursor(cursor)
    moment, text = position
    if unfit_character(text) is not None:
        raise bad_cursor(cursor)
    try:
        found = datetime.fromisoformat(moment)
        if found.tzinfo is None:
            raise bad_cursor(cursor)
        return within_calendar(found), text
    except ValueError:
        raise bad_cursor(cursor) from None


def bad_cursor(cursor: str) -> InvalidRequest:
    """The refusal of a cursor that no page gave."""
    return InvalidRequest(
        f"The cursor {cursor[:40]!r} is not one of ours; use next_cursor of the page before.",
        field="cursor",
    )
