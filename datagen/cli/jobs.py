"""`datagen job …`: list, show, watch, cancel."""

from __future__ import annotations

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
)
from datagen.embedded import Workers

if TYPE_CHECKING:
    from datagen.client import Client
    from datagen.schemas import Gate, Job, LabelProgress, State

group = typer.Typer(name="job", help="Requests for images: list, show, watch, cancel.")

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="Items to show.")]
Cursor = Annotated[str | None, typer.Option(help="next_cursor of the page before.")]


@group.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with connected(Workers.NONE) as connection:
        page = connection.client.jobs.list(
            state=cast("State | None", state), limit=limit, cursor=cursor
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
            "gate": None if job.gate is None else ", ".join(_said(job.gate)),
            "images": f"{job.images_stored:,} of {job.images_requested:,}",
            "exports": ", ".join(map(str, job.exports)) or None,
            "error": job.error,
        }
    )
    print_labels(job.labels, gated=job.gate is not None)


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
