"""`datagen demo`: the whole path on this machine, from a request to files that loaders open."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datagen.cli.connect import own_stack
from datagen.cli.exports import fetch_export
from datagen.cli.generate import check_seed
from datagen.cli.jobs import follow_job, print_labels
from datagen.cli.output import AsJson, note, print_json, say, usage_error
from datagen.errors import DatagenError

if TYPE_CHECKING:
    from datagen.client import Client
    from datagen.client.resources import Job
    from datagen.settings import Settings

MARKER = ".datagen-demo"
HOME, SHEET, SUMMARY = "home", "contact-sheet.png", "summary.json"
FORMATS = ("imagefolder", "parquet")
MADE = (HOME, *FORMATS, SHEET, SUMMARY)
SHEET_COLUMNS = 20


def demo(
    out: Annotated[Path, typer.Option(help="Folder for what the demo makes.")] = Path(
        "datagen-demo"
    ),
    per_label: Annotated[int, typer.Option(min=1, help="Images of every label.")] = 100,
    seed: Annotated[
        int | None, typer.Option(metavar="INTEGER", help="Same seed, same images.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what an earlier demo made in the folder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Generate digits with the bundled model and export them, all on this machine."""
    check_seed(seed)
    began = time.monotonic()
    out = out.absolute()
    _make_room(out, force=force)
    with own_stack(_settings(out / HOME)) as client:
        started = time.monotonic()
        job = _generate(client, per_label, seed)
        generated = time.monotonic()
        for export_id in job.exports:
            fetch_export(client, export_id, out / client.exports.get(export_id).format)
        exported = time.monotonic()
    summary = _summary(job, out)
    summary["seconds"] = {
        "start": round(started - began, 2),
        "generate": round(generated - started, 2),
        "export": round(exported - generated, 2),
        "total": round(time.monotonic() - began, 2),
    }
    _draw_sheet(out, [label.label for label in job.labels])
    (out / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if as_json:
        print_json(summary)
    else:
        _tell(job, summary, out)


def _settings(home: Path) -> Settings:
    from datagen.settings import load_settings  # noqa: PLC0415 - slow to load

    # A demo keeps to its folder, whatever the environment says about a real service.
    return load_settings(
        home=home, url=None, api_key=None, database_url=None, broker_url=None, storage_url=None
    )


def _make_room(out: Path, *, force: bool) -> None:
    """Make the folder, or clear it of what an earlier demo made and of nothing else."""
    if out.exists() and not out.is_dir():
        raise usage_error(f"--out names {out}, which is no folder; choose another.")
    there = [name for name in MADE if (out / name).exists() or (out / name).is_symlink()]
    if there and not force:
        raise usage_error(
            f"{out} holds {', '.join(there)} already; --force replaces what a demo made there."
        )
    if there and not (out / MARKER).is_file():
        raise usage_error(
            f"{out} holds {', '.join(there)}, and no demo made that (there is no {MARKER}); "
            "choose another folder with --out."
        )
    if there:
        _refuse_running(out / HOME)
    for name in there:
        _remove(out / name)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).write_text(
            "A datagen demo made home, imagefolder, parquet, contact-sheet.png and summary.json "
            "here.\n",
            encoding="utf-8",
        )
    except OSError as error:
        raise usage_error(
            f"--out names {out}, which cannot be written ({error.strerror}); choose another."
        ) from error


def _refuse_running(home: Path) -> None:
    from datagen.embedded import running_stack  # noqa: PLC0415 - only here; the rest starts one

    stack = running_stack(home)
    if stack is not None:
        raise usage_error(f"{home} is in use by process {stack.pid}; end that first.")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _generate(client: Client, per_label: int, seed: int | None) -> Job:
    job = client.jobs.create("mnist", per_label=per_label, seed=seed, exports=FORMATS)
    job = follow_job(client, job.id)
    if job.state != "succeeded":
        raise DatagenError(f"Job {job.id} {job.state}: {job.error}")
    return client.jobs.get(job.id)


def _summary(job: Job, out: Path) -> dict[str, Any]:
    seconds = (
        (job.ended_at - job.started_at).total_seconds() if job.ended_at and job.started_at else 0
    )
    return {
        "job_id": str(job.id),
        "state": job.state,
        "model": f"{job.model.name}@{job.model.version}",
        "model_digest": job.model.digest,
        "seed": job.seed,
        "images": job.images_stored,
        "images_per_second": round(job.images_stored / seconds, 1) if seconds else None,
        "labels": {
            label.label: {
                "requested": label.requested,
                "stored": label.stored,
                "mean_score": _rounded(label.mean_score),
                "agreement": _rounded(label.agreement),
            }
            for label in job.labels
        },
        "stage_seconds": job.seconds.model_dump(),
        "paths": {
            **{name: str(out / name) for name in FORMATS},
            "contact_sheet": str(out / SHEET),
            "summary": str(out / SUMMARY),
        },
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _draw_sheet(out: Path, names: Sequence[str]) -> None:
    """One row a label, read from the Parquet export: the first images of each."""
    import pyarrow.dataset as parquet  # noqa: PLC0415 - slow to load

    from datagen.images import contact_sheet, decode_pngs  # noqa: PLC0415 - likewise

    exported = parquet.dataset(out / "parquet" / "data", format="parquet")
    rows = []
    for number in range(len(names)):
        found = exported.head(
            SHEET_COLUMNS, columns=["image"], filter=parquet.field("label") == number
        )
        rows.append(decode_pngs([image["bytes"] for image in found["image"].to_pylist()]))
    (out / SHEET).write_bytes(contact_sheet(rows, names))


def _tell(job: Job, summary: dict[str, Any], out: Path) -> None:
    print_labels(job.labels)
    say(
        f"{job.images_stored:,} images at {summary['images_per_second']} images/s; "
        f"the whole demo took {summary['seconds']['total']} s."
    )
    for name in (*FORMATS, SHEET, SUMMARY):
        say(f"  {out / name}")
    note(f"The state is in {out / HOME}; remove it when you like.")
