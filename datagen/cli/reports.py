"""`datagen report`: what the images of a job or a model are worth."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from datagen.cli.connect import Connection, connected
from datagen.cli.output import FAILED, AsJson, note, print_json, progress, say, usage_error, warn
from datagen.errors import Conflict, DatagenError, NotFound, StorageFailure

if TYPE_CHECKING:
    from datagen.client import Client
    from datagen.schemas import Report

FILES = ("report.json", "report.html")


def report(
    subject: Annotated[
        str, typer.Argument(metavar="JOB|MODEL", help="A job's id, or name or id of a model.")
    ],
    real: Annotated[
        str | None,
        typer.Option(help="Dataset to measure by; what the model was trained on by default."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for report.json and report.html.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Minutes instead of an hour.")] = False,
    images: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Look at so many of the images at most.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a report that is there.")] = False,
    as_json: AsJson = False,
) -> int:
    """Measure labelled images beside real ones, and say whether they help.

    Label fidelity, distances, coverage, copying, usefulness, and a verdict with its interval.
    """
    if out is not None:
        _check_free(out, force=force)
    with connected() as connection:
        client = connection.client
        asked = _create(client, subject, real=real, quick=quick, images=images)
        done = _wait(connection, asked)
        found = None
        if done.state == "succeeded":
            files = {name: client.reports.fetch(done.id, name) for name in FILES}
            found = json.loads(files["report.json"])
            if out is not None:
                _write(out, files)
    if as_json:
        print_json(found if found is not None else done)
    elif found is not None:
        _say(found, out)
    if done.state != "succeeded":
        note(f"error: report {done.id} {done.state}" + (f": {done.error}" if done.error else "."))
        return FAILED
    return 0


def _create(
    client: Client, subject: str, *, real: str | None, quick: bool, images: int | None
) -> Report:
    """A report on the job of that id, or else on the model of that name or id."""
    try:
        job = UUID(subject)
    except ValueError:
        return client.reports.create(model=subject, real=real, quick=quick, images=images)
    with suppress(NotFound):
        client.jobs.get(job)
        return client.reports.create(job=job, real=real, quick=quick, images=images)
    try:
        client.models.get(job)
    except NotFound:
        raise NotFound(
            f"There is no job and no model {subject}; `datagen job list` and `datagen model list` "
            "show them."
        ) from None
    return client.reports.create(model=job, real=real, quick=quick, images=images)


def _wait(connection: Connection, asked: Report) -> Report:
    client = connection.client
    try:
        with progress("measuring", "steps") as tell:
            return client.reports.wait(
                asked.id,
                lambda seen: tell(seen.progress.get("done", 0), seen.progress.get("steps", 1)),
            )
    except KeyboardInterrupt:
        with suppress(DatagenError, Conflict):
            client.reports.cancel(asked.id)
        note(f"Report {asked.id} is cancelled.")
        raise


def _check_free(out: Path, *, force: bool) -> None:
    taken = [name for name in FILES if (out / name).exists()]
    if out.exists() and not out.is_dir():
        raise usage_error(f"{out} is no folder; name another.", "out")
    if taken and not force:
        raise usage_error(
            f"{out} has a {taken[0]} already; name another folder, or replace it with --force.",
            "out",
        )


def _write(out: Path, files: dict[str, bytes]) -> None:
    """Each file under another name first, so that none is ever half there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            beside = out / f".{name}.part"
            beside.write_bytes(data)
            beside.replace(out / name)
    except OSError as error:
        raise StorageFailure(f"{out} cannot be written: {error.strerror or error}.") from error


def _say(found: dict[str, Any], out: Path | None) -> None:
    verdict = found["verdict"]
    say(verdict["sentence"])
    for advice in verdict["advice"]:
        say(f"  {advice}")
    warn(found.get("notes", []))
    for each in found["not_computed"]:
        note(f"not computed: {each['part']}: {each['reason']}")
    if (own := found.get("fidelity")) is not None:
        say(
            f"labels right:    {own['agreement']:.1%} (real images: "
            f"{own['evaluator']['agreement']:.1%})"
        )
    if (own := found.get("coverage")) is not None:
        say(f"coverage:        {own['coverage']:.3f} (real: {own['held_out']['coverage']:.3f})")
    if (own := found.get("distance")) is not None:
        fd = own["frechet"]
        say(f"Fréchet:         {fd['value']:.4g} (floor: {fd['floor']['value']:.4g})")
    if (own := found.get("copying")) is not None:
        say(
            f"copies:          {own['copies']:,} of {found['subject']['images']:,}; "
            f"{own['exact_duplicates']:,} exact and {own['near_duplicates']:,} near duplicates"
        )
    if out is not None:
        say(f"The report is in {out}; open {out / 'report.html'}")
