"""`datagen generate`: ask for images, and bring them here."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from datagen.cli.connect import Connection, connected
from datagen.cli.exports import check_out, fetch_export
from datagen.cli.jobs import Detach, end_code, follow_job, parse_labels, print_job
from datagen.cli.output import (
    AsJson,
    note,
    print_fields,
    print_json,
    print_table,
    say,
    usage_error,
    warn,
)
from datagen.embedded import Workers
from datagen.errors import DatagenError

if TYPE_CHECKING:
    from datagen.client.options import JobOptions
    from datagen.client.resources import Job
    from datagen.schemas import Priority, Sampler

DEFAULT_FORMAT = "parquet"
SEED_LIMIT = 2**63
# As in `datagen.schemas`, which takes long to load.
MAX_ATTEMPTS = 1000


def generate(
    *,
    model: Annotated[str, typer.Option(help="Name, name@version or id.")] = "mnist",
    labels: Annotated[
        str | None, typer.Option(metavar="LABEL=N,…", help="Such as 3=500,8=200.")
    ] = None,
    per_label: Annotated[int | None, typer.Option(min=1, help="This many of every label.")] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="This many of a model without labels; the judge gives them."),
    ] = None,
    balance: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Fill up the smaller classes of this dataset."),
    ] = None,
    to: Annotated[
        int | None, typer.Option(min=1, help="With --balance: images that every class comes to.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="INTEGER", help="Same seed, same images.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Below 1: safer and less varied. Default 1.")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="prior, density, neighbour or interpolate; the model's best by default."),
    ] = None,
    truncation: Annotated[
        float | None, typer.Option(help="Keep the latents' normals within this distance of 0.")
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            help="With --sampler neighbour: distance from the real image that an image starts "
            "from, 0 to 1; the model's best by default."
        ),
    ] = None,
    gate: Annotated[
        bool | None,
        typer.Option(
            "--gate/--no-gate",
            help="Keep only images that pass the judge; the model's own gate by default.",
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(help="Generate again images with a lower score than this; 0 to 1."),
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option(help="Candidates per image before datagen gives up. Default 20.")
    ] = None,
    reject_copies: Annotated[
        bool | None, typer.Option(help="Generate again copies of training images.")
    ] = None,
    reject_duplicates: Annotated[
        bool | None, typer.Option(help="Generate again images that the job has already.")
    ] = None,
    on_shortfall: Annotated[
        str | None,
        typer.Option(help="Where no candidate passes: fail (default), or keep those that did."),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="Export in this format; parquet with --out. May be repeated."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the export.")] = None,
    priority: Annotated[
        str | None,
        typer.Option(help="interactive for few images, bulk for many; by their number otherwise."),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Stored with the job; may be repeated. Or a JSON object."
        ),
    ] = None,
    retention_days: Annotated[
        int | None, typer.Option(min=1, help="Days after which the job and its images are removed.")
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(metavar="WEBHOOK", help="Id of a webhook to notify when the job ends."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, and generate nothing.")
    ] = False,
    detach: Detach = False,
    as_json: AsJson = False,
) -> int:
    """Generate labelled images, wait for them, and export them.

    Sampler and gate default to what the model's training found best, or what usually
    teaches best where it compared nothing. Any of --min-score,
    --max-attempts, --reject-copies, --reject-duplicates and --on-shortfall sets up a gate, with its
    defaults for the others; so does --gate alone, and --no-gate takes every image.
    """
    counts = parse_labels(labels)
    _check(counts, per_label, count, balance, to, seed, temperature)
    wanted: JobOptions = {
        "per_label": per_label,
        "count": count,
        "balance": None if balance is None else {"dataset": balance, "to": to},
        "seed": seed,
        "temperature": temperature,
        "sampler": _sampler(sampler),
        "truncation": truncation,
        "strength": _strength(strength, sampler),
        "gate": _chosen_gate(
            gate, _gate(min_score, max_attempts, reject_copies, reject_duplicates, on_shortfall)
        ),
        "priority": _priority(priority),
        "metadata": _metadata(metadata or []),
        "retention_days": retention_days,
        "webhook": webhook,
    }
    if dry_run:
        return _plan(model, counts, wanted, as_json=as_json)
    if out is not None:
        if detach:
            raise usage_error("--out waits for the images and --detach does not; leave one out.")
        check_out(out)
        if len(formats or []) > 1:
            raise usage_error("--out is the root of one export; give --format once.")
        formats = formats or [DEFAULT_FORMAT]
    with connected(must_run=detach) as connection:
        wanted["exports"] = formats or []
        job = connection.client.jobs.create(model, counts, **wanted)
        if not detach:
            job = _wait(connection, job)
            job = _finish(connection, job, out)
    if as_json:
        print_json(job)
    elif detach:
        say(f"Job {job.id} is {job.state}; follow it with: datagen job watch {job.id}")
        warn(job.notes)
    else:
        print_job(job)
        if out is not None and job.state == "succeeded":
            say(f"The {wanted['exports'][0]} export is in {out}")
    return 0 if detach else end_code(job)


def _plan(model: str, counts: dict[str, int] | None, wanted: JobOptions, *, as_json: bool) -> int:
    with connected(Workers.NONE) as connection:
        plan = connection.client.jobs.plan(model, counts, **wanted)
    if as_json:
        print_json(plan)
        return 0
    batches = "1 batch" if plan.batches == 1 else f"{plan.batches:,} batches"
    print_fields(
        {
            "model": f"{plan.model.name}@{plan.model.version}",
            "sampler": plan.sampler,
            "strength": plan.strength,
            "images": f"{plan.images:,} in {batches}",
            "time": None if plan.seconds is None else f"about {plan.seconds:,.0f} s",
            "storage": None if plan.bytes is None else f"about {plan.bytes / 1e6:,.1f} MB",
            "left of the quota": f"{plan.images_left:,} images",
        }
    )
    print_table(["label", "images"], list(plan.labels.items()))
    warn(plan.notes)
    return 0


def _priority(name: str | None) -> Priority | None:
    if name not in {None, "interactive", "bulk"}:
        raise usage_error(f"--priority is {name!r}; give interactive or bulk.")
    return cast("Priority | None", name)


def _metadata(pairs: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        noted = _object(pair)
        if noted is not None:
            found |= noted
            continue
        name, separator, value = pair.partition("=")
        if not name or not separator:
            raise usage_error(f"--metadata is {pair!r}; write NAME=VALUE, or a JSON object.")
        found[name] = value
    return found


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; None where it is none."""
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
        # NaN and infinity are read, but are no JSON.
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found)


def _chosen_gate(
    wanted: bool | None, options: dict[str, Any]
) -> dict[str, Any] | Literal["recommended"] | None:
    """The gate that all options come to. Raises InvalidRequest."""
    if wanted is False and options:
        name = next(iter(options)).replace("_", "-")
        raise usage_error(
            f"--no-gate takes every image and --{name} is for a gate; leave one of them out."
        )
    if wanted is False:
        return None
    return options if wanted or options else "recommended"


def _gate(
    min_score: float | None,
    max_attempts: int | None,
    reject_copies: bool | None,
    reject_duplicates: bool | None,
    on_shortfall: str | None,
) -> dict[str, Any]:
    """What the options say of a gate; nothing where none was given."""
    if min_score is not None and not 0 <= min_score <= 1:
        raise usage_error(f"--min-score is {min_score}; give a number from 0 to 1.")
    if max_attempts is not None and not 1 <= max_attempts <= MAX_ATTEMPTS:
        raise usage_error(
            f"--max-attempts is {max_attempts}; give a number from 1 to {MAX_ATTEMPTS}."
        )
    if on_shortfall not in {None, "fail", "keep"}:
        raise usage_error(f"--on-shortfall is {on_shortfall!r}; use fail or keep.")
    given = {
        "min_score": min_score,
        "max_attempts": max_attempts,
        "reject_copies": reject_copies,
        "reject_duplicates": reject_duplicates,
        "on_shortfall": on_shortfall,
    }
    return {name: value for name, value in given.items() if value is not None}


def _strength(strength: float | None, sampler: str | None) -> float | None:
    if strength is None:
        return None
    if not 0 <= strength <= 1:
        raise usage_error(f"--strength is {strength:g}; give a number from 0 to 1.")
    if sampler != "neighbour":
        raise usage_error("--strength is for --sampler neighbour; give that too, or leave it out.")
    return strength


def _sampler(name: str | None) -> Sampler | Literal["recommended"]:
    from datagen.schemas import Sampler  # noqa: PLC0415 - slow to load

    known = get_args(Sampler)
    if name not in {None, "recommended", *known}:
        raise usage_error(f"--sampler is {name!r}; use recommended, {', '.join(known)}.")
    return cast('Sampler | Literal["recommended"]', name or "recommended")


def _check(
    counts: dict[str, int] | None,
    per_label: int | None,
    count: int | None,
    balance: str | None,
    to: int | None,
    seed: int | None,
    temperature: float | None,
) -> None:
    if sum(way is not None for way in (counts, per_label, count, balance)) != 1:
        raise usage_error(
            "Give one of --labels, such as 3=500,8=200, --per-label N, --balance DATASET and, for "
            "a model that knows no labels, --count N."
        )
    if to is not None and balance is None:
        raise usage_error(f"--to {to} says how far --balance DATASET goes; give that too.")
    check_seed(seed)
    if temperature is not None and not (math.isfinite(temperature) and temperature >= 0):
        raise usage_error(f"--temperature is {temperature}; give a number that is not negative.")


def check_seed(seed: int | None) -> None:
    """Refuse what no job takes as a seed. Raises InvalidRequest."""
    if seed is not None and not 0 <= seed < SEED_LIMIT:
        raise usage_error(f"--seed is {seed}; give a number from 0 to {SEED_LIMIT - 1}.")


def _wait(connection: Connection, job: Job) -> Job:
    try:
        return follow_job(connection.client, job.id)
    except KeyboardInterrupt:
        if connection.is_own:
            # Its workers end with this command; a job that nobody does would stay "running".
            with suppress(DatagenError):
                connection.client.jobs.cancel(job.id)
            note(f"Job {job.id} is cancelled.")
        else:
            note(f"Job {job.id} goes on; follow it with: datagen job watch {job.id}")
        raise


def _finish(connection: Connection, job: Job, out: Path | None) -> Job:
    """Wait for the exports that followed the job, and fetch the one that `out` is for."""
    client = connection.client
    if job.state != "succeeded" or not job.exports:
        return job
    for export_id in job.exports:
        fetch_export(client, export_id, out)
    return client.jobs.get(job.id)
