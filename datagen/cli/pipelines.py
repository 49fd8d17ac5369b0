"""`datagen pipeline …`: apply, validate, list, show, run, pause, resume, history, logs, delete."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast
from zoneinfo import ZoneInfo

import typer

from datagen.cli.connect import Connection, connected
from datagen.cli.jobs import Cursor, Limit, tell_of_more
from datagen.cli.output import (
    FAILED,
    AsJson,
    Tell,
    note,
    print_fields,
    print_json,
    print_table,
    progress,
    say,
    usage_error,
)
from datagen.embedded import Workers
from datagen.errors import DatagenError, NotFound

if TYPE_CHECKING:
    from datagen.client.resources import Run
    from datagen.schemas import DryRun, DueTimes, Pipeline, State

group = typer.Typer(
    name="pipeline",
    help="Recipes that run again and again: apply, validate, list, show, run, pause, resume, next, "
    "history, logs, cancel, delete.",
)

Name = Annotated[str, typer.Argument(metavar="PIPELINE", help="Its name or id.")]
File = Annotated[
    Path, typer.Argument(metavar="FILE", help="YAML or JSON with the recipe; - reads it from here.")
]
MOMENT = "%Y-%m-%d %H:%M:%S"


@group.command("apply")
def apply_pipeline(file: File, as_json: AsJson = False) -> None:
    """Keep a recipe under its name; a changed one is the next version."""
    recipe = _read(file)
    with connected(Workers.NONE) as connection:
        pipeline = connection.client.pipelines.apply(recipe)
    if as_json:
        print_json(pipeline)
        return
    say(f"Pipeline {pipeline.name} is there in version {pipeline.version}; {_when(pipeline)}.")
    if connection.is_own:
        note("Due times come while a server runs; start one with: datagen up")


@group.command("validate")
def validate_pipeline(file: File, as_json: AsJson = False) -> None:
    """Check a recipe, and show when it would run; nothing is kept."""
    recipe = _read(file)
    with connected(Workers.NONE) as connection:
        told = connection.client.pipelines.validate(recipe)
    if as_json:
        print_json(told)
        return
    say(f"The recipe {told.name} can be applied.")
    for moment in told.next:
        say(f"  {moment:{MOMENT}} UTC")
    for warning in told.warnings:
        note(f"warning: {warning}")


@group.command("list")
def list_pipelines(limit: Limit = 50, cursor: Cursor = None, as_json: AsJson = False) -> None:
    """List pipelines, newest first."""
    with connected(Workers.NONE) as connection:
        page = connection.client.pipelines.list(limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    print_table(
        ["pipeline", "version", "next", "last run"],
        [(row.name, row.version, _next(row), row.last_state or "-") for row in page.items],
    )
    tell_of_more(page.next_cursor)


@group.command("show")
def show_pipeline(name: Name, as_json: AsJson = False) -> None:
    """Show a pipeline and its recipe."""
    from datagen.recipes import written  # noqa: PLC0415 - loads the reader of YAML

    with connected(Workers.NONE) as connection:
        pipeline = connection.client.pipelines.get(name)
    if as_json:
        print_json(pipeline)
        return
    last = None if pipeline.last_run is None else f"{pipeline.last_run} {pipeline.last_state}"
    print_fields(
        {
            "pipeline": pipeline.name,
            "id": pipeline.id,
            "version": pipeline.version,
            "next": _next(pipeline),
            "last run": last,
            "changed": f"{pipeline.updated_at:{MOMENT}}",
        }
    )
    say("")
    say(written(pipeline.recipe).rstrip())


@group.command("run")
def run_pipeline(
    name: Name,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show counts before and after, and run nothing.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Run a pipeline now, whatever its schedule."""
    if dry_run:
        with connected(Workers.NONE) as connection:
            told = connection.client.pipelines.dry_run(name)
        print_json(told) if as_json else _print_dry(told)
        return 0
    with connected(must_run=not wait) as connection:
        run = connection.client.pipelines.run(name)
        if wait:
            run = _follow(connection, run)
    if as_json:
        print_json(run)
    elif wait:
        _print_run(run)
    else:
        say(f"Run {run.id} is {run.state}; see it with: datagen pipeline logs {run.id}")
    return _end_code(run) if wait else 0


@group.command("pause")
def pause_pipeline(name: Name, as_json: AsJson = False) -> None:
    """Let no due time come any more; it can still be run by hand."""
    with connected(Workers.NONE) as connection:
        pipeline = connection.client.pipelines.pause(name)
    print_json(pipeline) if as_json else say(f"Pipeline {pipeline.name} is paused.")


@group.command("resume")
def resume_pipeline(name: Name, as_json: AsJson = False) -> None:
    """Let due times come again; those that came meanwhile are not caught up."""
    with connected(Workers.NONE) as connection:
        pipeline = connection.client.pipelines.resume(name)
    print_json(pipeline) if as_json else say(f"Pipeline {pipeline.name}: {_when(pipeline)}.")


@group.command("next")
def next_due_times(name: Name, as_json: AsJson = False) -> None:
    """List the next five due times, in the schedule's zone."""
    with connected(Workers.NONE) as connection:
        told = connection.client.pipelines.next(name)
    if as_json:
        print_json(told)
        return
    if told.paused:
        note("It is paused; none of these comes before it is resumed.")
    if not told.times:
        note("No due time comes: it is run by hand, or when its dataset changes.")
    for moment in _local(told):
        say(f"{moment:{MOMENT} %z}")


@group.command("history")
def list_runs(
    name: Name,
    *,
    state: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """List its runs, newest first."""
    with connected(Workers.NONE) as connection:
        page = connection.client.pipelines.history(
            name, state=cast("State | None", state), limit=limit, cursor=cursor
        )
    if as_json:
        print_json(page)
        return
    print_table(
        ["run", "state", "due", "cause", "images", "took", "what came of it"],
        [
            (
                run.id,
                run.state,
                f"{run.due_at:{MOMENT}}",
                run.cause,
                "-" if run.images is None else run.images,
                _took(run),
                run.error or run.sentence or "",
            )
            for run in page.items
        ],
    )
    tell_of_more(page.next_cursor)


@group.command("logs")
def show_logs(
    reference: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, or a pipeline's for its last run.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show what each step of a run has done."""
    with connected(Workers.NONE) as connection:
        run = _run(connection, reference)
    print_json(run) if as_json else _print_run(run)


@group.command("cancel")
def cancel_run(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    as_json: AsJson = False,
) -> None:
    """Stop a run and the step that it is at; what it has made stays."""
    with connected(Workers.NONE) as connection:
        run = connection.client.runs.cancel(run_id)
    print_json(run) if as_json else say(f"Run {run.id} is {run.state}.")


@group.command("delete")
def delete_pipeline(name: Name, as_json: AsJson = False) -> None:
    """Remove a pipeline with its history; what its runs have made stays."""
    with connected(Workers.NONE) as connection:
        connection.client.pipelines.remove(name)
    print_json({"deleted": name}) if as_json else say(f"Pipeline {name} is deleted.")


@group.command("schema")
def show_schema(as_json: AsJson = False) -> None:
    """Print the JSON Schema of recipe files, for editors."""
    from datagen.schemas import pipeline_schema  # noqa: PLC0415 - builds all types

    say(json.dumps(pipeline_schema(), indent=None if as_json else 2))


def _read(file: Path) -> dict[str, Any]:
    """The recipe in a file, or on standard input. Raises InvalidRequest, MalformedRequest."""
    from datagen.recipes import read_recipe  # noqa: PLC0415 - as above

    if str(file) == "-":
        return read_recipe(sys.stdin.buffer.read())
    try:
        return read_recipe(file.read_bytes())
    except OSError as error:
        raise usage_error(f"{file} cannot be read: {error.strerror or error}.") from None


def _when(pipeline: Pipeline) -> str:
    if pipeline.paused:
        return "it is paused"
    if pipeline.next_due_at is None:
        return "it runs by hand, or when its dataset changes"
    return f"it runs next at {pipeline.next_due_at:{MOMENT}} UTC"


def _next(pipeline: Pipeline) -> str:
    if pipeline.paused:
        return "paused"
    return "-" if pipeline.next_due_at is None else f"{pipeline.next_due_at:{MOMENT}}"


def _local(told: DueTimes) -> list[datetime]:
    return [moment.astimezone(ZoneInfo(told.timezone)) for moment in told.times]


def _run(connection: Connection, reference: str) -> Run:
    try:
        return connection.client.runs.get(reference)
    except NotFound:
        pipeline = connection.client.pipelines.get(reference)
    if pipeline.last_run is None:
        raise NotFound(f"The pipeline {pipeline.name!r} has not run yet.")
    return connection.client.runs.get(pipeline.last_run)


def _follow(connection: Connection, run: Run) -> Run:
    try:
        with progress("running", "steps") as tell:
            return connection.client.runs.wait(run.id, lambda found: _show(found, tell))
    except KeyboardInterrupt:
        if connection.is_own:
            with suppress(DatagenError):
                connection.client.runs.cancel(run.id)
            note(f"Run {run.id} is cancelled.")
        else:
            note(f"Run {run.id} goes on; see it with: datagen pipeline logs {run.id}")
        raise


def _show(run: Run, tell: Tell) -> None:
    """Tell how many steps are over, and how far the next one is."""
    over = sum(step.state not in {"waiting", "running"} for step in run.steps)
    at = next((step for step in run.steps if step.state == "running"), None)
    share = "" if at is None or at.done is None else f" {at.done:.0%}"
    tell(over, len(run.steps), "" if at is None else f"{at.name}{share}")


def _took(run: Run) -> str:
    if run.started_at is None or run.ended_at is None:
        return "-"
    return f"{(run.ended_at - run.started_at).total_seconds():,.0f} s"


def _print_run(run: Run) -> None:
    print_fields(
        {
            "run": run.id,
            "pipeline": f"{run.name}, version {run.version}",
            "state": run.state,
            "due": f"{run.due_at:{MOMENT}} ({run.cause})",
            "took": _took(run),
            "images": None if run.images is None else f"{run.images:,}",
            "seed": run.seed,
            "job": run.job,
            "report": run.report,
            "exports": ", ".join(map(str, run.exports)) or None,
            "came of it": run.sentence,
        }
    )
    for step in run.steps:
        say(f"\n{step.name}: {step.state}")
        for line in step.log:
            say(f"  {line.at:{MOMENT}} {line.text}")


def _print_dry(told: DryRun) -> None:
    say(f"Dataset {told.dataset}: {told.images:,} images would be made.")
    print_table(
        ["label", "before", "after"], [(one.label, one.before, one.after) for one in told.classes]
    )
    for warning in told.warnings:
        note(f"warning: {warning}")


def _end_code(run: Run) -> int:
    if run.state == "succeeded":
        return 0
    why = run.error or run.sentence
    note(f"error: run {run.id} {run.state}" + (f": {why}" if why else "."))
    return FAILED
