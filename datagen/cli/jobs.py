"""`datagen job …`: list, show, watch, cancel, retry, extend, remove."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, cast

import typer

from datagen.cli.connect import connected
from datagen.cli.output import (
    FAILED,
    AsJson,
    decimals,
    note,
    percent,
    print_fields,
    print_json,
    print_table,
    progress,
    say,
    usage_error,
    warn,
)
from datagen.embedded import Workers

if TYPE_CHECKING:
    from datagen.client import Client
    from datagen.client.resources import Job
    from datagen.schemas import Gate, LabelProgress, State

group = typer.Typer(
    name="job", help="Requests for images: list, show, watch, cancel, retry, extend, remove."
)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="Items to show.")]
Cursor = Annotated[str | None, typer.Option(help="next_cursor of the page before.")]
Detach = Annotated[bool, typer.Option("--detach", help="Answer at once; do not wait.")]
MOST_DIGITS = 20


@group.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Only jobs of this name, name@version or id.")
    ] = None,
    oldest_first: Annotated[
        bool, typer.Option("--oldest-first", help="Begin with the oldest.")
    ] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with connected(Workers.NONE) as connection:
        page = connection.client.jobs.list(
            state=cast("State | None", state),
            model=model,
            sort="created_at" if oldest_first else "-created_at",
            limit=limit,
            cursor=cursor,
        )
    if as_json:
        print_json(page)
        return
    print_table(
        ["job", "state", "model", "stored", "requested", "created"],
        [
            (
                job.id,
                job.state,
                f"{job.model.name}@{job.model.version}",
                job.images_stored,
                job.images_requested,
                f"{job.created_at:%Y-%m-%d %H:%M:%S}",
            )
            for job in page.items
        ],
    )
    tell_of_more(page.next_cursor)


@group.command("show")
def show_job(job_id: JobId, as_json: AsJson = False) -> None:
    """Show a job and its progress per label."""
    with connected(Workers.NONE) as connection:
        job = connection.client.jobs.get(job_id)
    print_json(job) if as_json else print_job(job)


@group.command("watch")
def watch_job(job_id: JobId, as_json: AsJson = False) -> int:
    """Follow a job until it has ended."""
    with connected() as connection:
        job = follow_job(connection.client, job_id)
    print_json(job) if as_json else print_job(job)
    return end_code(job)


@group.command("cancel")
def cancel_job(job_id: JobId, as_json: AsJson = False) -> None:
    """Stop a job; what it has stored stays."""
    with connected(Workers.NONE) as connection:
        job = connection.client.jobs.cancel(job_id)
    if as_json:
        print_json(job)
    else:
        say(f"Job {job.id} is {job.state}; {job.images_stored:,} images are stored.")


@group.command("retry")
def retry_job(job_id: JobId, detach: Detach = False, as_json: AsJson = False) -> int:
    """Have a job that failed or was cancelled go on, and follow it; what it has stored stays."""
    with connected(must_run=detach) as connection:
        job = connection.client.jobs.retry(job_id)
        return _go_on(connection.client, job, detach=detach, as_json=as_json)


@group.command("extend")
def extend_job(
    job_id: JobId,
    labels: Annotated[
        str | None, typer.Option(metavar="LABEL=N,…", help="Such as 3=500,8=200.")
    ] = None,
    per_label: Annotated[int | None, typer.Option(min=1, help="This many of every label.")] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="This many of a model without labels.")
    ] = None,
    detach: Detach = False,
    as_json: AsJson = False,
) -> int:
    """Ask a job for more images, the next indices by the same seed, and follow it."""
    with connected(must_run=detach) as connection:
        job = connection.client.jobs.extend(
            job_id, parse_labels(labels), per_label=per_label, count=count
        )
        return _go_on(connection.client, job, detach=detach, as_json=as_json)


@group.command("remove")
def remove_job(
    job_id: JobId,
    force: Annotated[
        bool, typer.Option("--force", help="Also where exports or reports name it; they stay.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take an ended job away for good, with its images."""
    with connected(Workers.NONE) as connection:
        connection.client.jobs.remove(job_id, force=force)
    print_json({"removed": job_id}) if as_json else say(f"Job {job_id} is removed.")


def _go_on(client: Client, job: Job, *, detach: bool, as_json: bool) -> int:
    if not detach:
        job = follow_job(client, job.id)
    if as_json:
        print_json(job)
    elif detach:
        say(f"Job {job.id} is {job.state}; follow it with: datagen job watch {job.id}")
        warn(job.notes)
    else:
        print_job(job)
    return 0 if detach else end_code(job)


def parse_labels(text: str | None) -> dict[str, int] | None:
    """Counts by label from LABEL=N,LABEL=N or a JSON object. Raises InvalidRequest."""
    if text is None:
        return None
    counts: dict[str, int] = {}
    for label, count in _pairs_of_json(text) or _pairs_of(text):
        if label in counts:
            raise usage_error(f"--labels names {label!r} twice; name each label once.")
        counts[label] = count
    zero = [label for label, count in counts.items() if count == 0]
    if zero:
        raise usage_error(
            f"--labels asks for 0 of {zero[0]!r}; ask for at least 1, or leave it out."
        )
    return counts


def _pairs_of(text: str) -> list[tuple[str, int]]:
    found = []
    for part in text.split(","):
        label, _, count = part.strip().rpartition("=")
        if not label or not (count.isascii() and count.isdigit() and len(count) < MOST_DIGITS):
            raise usage_error(
                f"--labels has {part!r}; write LABEL=N, such as 3=500,8=200, or a JSON object "
                "where a label has a comma in it."
            )
        found.append((label, int(count)))
    return found


def _pairs_of_json(text: str) -> list[tuple[str, int]] | None:
    """Labels with counts of a JSON object; None where the text is none."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    for label, count in found:
        if type(count) is not int or count < 0:
            raise usage_error(
                f"--labels has {count!r} for {label!r}; give a whole number of images."
            )
    return cast("list[tuple[str, int]]", found)


def follow_job(client: Client, job_id: object) -> Job:
    """Wait for a job's end with a progress bar."""
    with progress("generating") as tell:
        return client.jobs.wait(
            str(job_id), lambda job: tell(job.images_stored, job.images_requested)
        )


def end_code(job: Job) -> int:
    """The exit code for a job that has ended; says why where it is not 0."""
    if job.state == "succeeded":
        return 0
    note(f"error: job {job.id} {job.state}" + (f": {job.error}" if job.error else "."))
    return FAILED


def print_job(job: Job) -> None:
    """The job in words."""
    print_fields(
        {
            "job": job.id,
            "state": job.state,
            "model": f"{job.model.name}@{job.model.version}",
            "seed": job.seed,
            "sampler": job.sampler,
            "temperature": job.temperature,
            "truncation": job.truncation,
            "strength": job.strength,
            "gate": None if job.gate is None else ", ".join(_said(job.gate)),
            "images": f"{job.images_stored:,} of {job.images_requested:,}",
            "pace": None if job.images_per_second is None else _pace(job),
            "metadata": json.dumps(job.metadata) if job.metadata else None,
            "removed": None if job.expires_at is None else f"on {job.expires_at:%Y-%m-%d}",
            "exports": ", ".join(map(str, job.exports)) or None,
            "error": job.error,
        }
    )
    print_labels(job.labels, gated=job.gate is not None)
    warn(job.notes)


def _pace(job: Job) -> str:
    left = "" if job.seconds_left is None else f", about {job.seconds_left:,.0f} s left"
    return f"{job.images_per_second:,.0f} images/s{left}"


def _said(gate: Gate) -> list[str]:
    return [f"{name} {value}" for name, value in gate.model_dump().items()]


def print_labels(labels: Sequence[LabelProgress], *, gated: bool = False) -> None:
    """A table with a row per label."""
    heads = ["label", "requested", "stored", "judge's score", "judge agrees"]
    rows: list[tuple[object, ...]] = [
        (
            label.label,
            "-" if label.requested is None else label.requested,
            label.stored,
            decimals(label.mean_score),
            percent(label.agreement),
        )
        for label in labels
    ]
    if gated:
        heads += ["short", "by score", "copies", "duplicates"]
        rows = [
            (*row, label.short, *label.rejected.values())
            for row, label in zip(rows, labels, strict=True)
        ]
    print_table(heads, rows)


def tell_of_more(cursor: str | None) -> None:
    """Say that a list goes on."""
    if cursor is not None:
        note(f"There are more: --cursor {cursor}")
