"""`datagen db …`: upgrade, check, rebuild."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from datagen.cli.output import DONE, FAILED, AsJson, note, print_json, progress, say, usage_error

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from datagen.settings import Settings
    from datagen.storage import Storage

group = typer.Typer(name="db", help="The database: upgrade, check, rebuild.")

OfJob = Annotated[
    str | None, typer.Option("--job", metavar="JOB", help="This job alone; all by default.")
]
NAMED_PROBLEMS = 20
_BUCKETS = {
    "created": "The bucket {name!r} was missing and is created.",
    "there": "The bucket {name!r} is there.",
    "hidden": "The bucket {name!r} may not be looked at with these keys, so it is left as it is.",
}


@group.command("upgrade")
def upgrade_database(
    bucket: Annotated[
        bool,
        typer.Option(help="Create the bucket of DATAGEN_STORAGE_URL, too, where it is missing."),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Bring the database's schema to this version's, and create the store's bucket."""
    from datagen.db.migrate import upgrade  # noqa: PLC0415 - Alembic is slow to load
    from datagen.settings import load_settings  # noqa: PLC0415 - likewise
    from datagen.storage import bucket_of, ensure_bucket  # noqa: PLC0415 - likewise

    settings = load_settings()
    revision = upgrade(settings.database)
    if not as_json:
        say(f"The database is at revision {revision}.")
    name = bucket_of(settings.storage) if bucket else None
    found = None if name is None else ensure_bucket(name)
    if as_json:
        print_json({"revision": revision, "bucket": found})
    elif found is not None:
        say(_BUCKETS[found].format(name=name))


@group.command("check")
def check_database(job: OfJob = None, as_json: AsJson = False) -> int:
    """Compare the rows of ended jobs with their shards; code 1 where they differ."""
    from datagen.service import checking  # noqa: PLC0415 - slow to load

    job_id = _id_of(job)
    wrong: list[str] = []
    checked = 0
    with backends() as (_, engine, storage), progress("checking", "batches") as tell:
        for found in checking.check(engine, storage, job_id):
            checked += 1
            tell(checked, checked + 1)
            if found.problem is not None:
                wrong.append(f"Job {found.job_id}: {found.problem}")
    if as_json:
        print_json({"batches": checked, "problems": wrong})
    else:
        for problem in wrong[:NAMED_PROBLEMS]:
            note(f"error: {problem}")
        say(f"{checked:,} batches, {len(wrong):,} of them with a problem.")
    return FAILED if wrong else DONE


@group.command("rebuild")
def rebuild_database(job: OfJob = None, as_json: AsJson = False) -> int:
    """Make rows again from shards, and have workers make shards again from their requests."""
    from datagen.queue import CeleryQueue  # noqa: PLC0415 - slow to load, as the next
    from datagen.service import checking  # noqa: PLC0415

    job_id = _id_of(job)
    rows = shards = 0
    with backends() as (settings, engine, storage), progress("rebuilding", "batches") as tell:
        broker_url = _broker_url(settings)
        for _, message in checking.rebuild(engine, storage, job_id):
            if message is None:
                rows += 1
            else:
                shards += 1
                if broker_url is not None:
                    CeleryQueue(broker_url).send([message])
            tell(rows + shards, rows + shards + 1)
    if as_json:
        print_json({"batches_with_new_rows": rows, "shards_asked_for": shards})
    else:
        say(f"The rows of {rows:,} batches are made again from their shards.")
    if shards and not as_json:
        wait = "workers make them" if broker_url else "no broker is there to tell workers by"
        say(f"{shards:,} shards are missing or damaged; {wait}.")
    return FAILED if shards and broker_url is None else DONE


def _id_of(job: str | None) -> UUID | None:
    if job is None:
        return None
    try:
        return UUID(job)
    except ValueError:
        raise usage_error(f"--job is {job!r}; give a job's id.") from None


@contextmanager
def backends() -> Iterator[tuple[Settings, Engine, Storage]]:
    """The database and the store themselves: no server stands between."""
    from datagen.db.migrate import check  # noqa: PLC0415 - slow to load, as all of these
    from datagen.db.session import open_engine  # noqa: PLC0415
    from datagen.settings import load_settings  # noqa: PLC0415
    from datagen.storage import open_storage  # noqa: PLC0415

    settings = load_settings()
    engine = open_engine(settings.database)
    try:
        check(engine)
        yield settings, engine, open_storage(settings.storage)
    finally:
        engine.dispose()


def _broker_url(settings: Settings) -> str | None:
    from datagen.embedded import valkey  # noqa: PLC0415 - slow to load

    if settings.broker_url is not None:
        return settings.broker_url
    socket = valkey.find_socket(settings.home / "valkey")
    return None if socket is None else valkey.broker_url(socket)
