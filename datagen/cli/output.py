"""What commands print: one JSON object or a few lines on standard output, the rest on the other.

With `--json`, standard output holds exactly one JSON object, the resource as the API gives it, and
an error is its problem document (RFC 9457) on standard error. Without, an error is one line there.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from datagen.errors import (
    DatagenError,
    InvalidFile,
    InvalidRequest,
    MalformedRequest,
    QuotaExceeded,
    StorageFailure,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

DONE, FAILED, USAGE = 0, 1, 2
LINE_SECONDS = 5.0

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]


class Tell(Protocol):
    """Takes note of how far something is."""

    def __call__(self, done: int, total: int, remark: str = "") -> None:
        """Show that `done` of `total` are done, with a few words after it."""


def print_json(value: BaseModel | Mapping[str, Any]) -> None:
    """Print a resource, or a mapping, as one line of JSON."""
    text = json.dumps(value) if isinstance(value, Mapping) else value.model_dump_json()
    sys.stdout.write(text + "\n")


def say(line: str) -> None:
    """Print one line of the answer."""
    sys.stdout.write(line + "\n")


def note(line: str) -> None:
    """Print one line that is not the answer."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def warn(sentences: Iterable[str]) -> None:
    """Print what to mind, a line each, beside the answer."""
    for sentence in sentences:
        note(f"warning: {sentence}")


def usage_error(sentence: str, option: str | None = None) -> InvalidRequest:
    """The error for what is wrong on the command line itself; it ends the command with code 2."""
    return InvalidRequest(sentence, field=option)


def exit_code(error: DatagenError) -> int:
    """2 where a value on the command line was wrong, else 1."""
    wrong_value = isinstance(error, InvalidRequest | MalformedRequest)
    return USAGE if wrong_value and not isinstance(error, InvalidFile | QuotaExceeded) else FAILED


def print_error(error: DatagenError, *, as_json: bool) -> None:
    """One line, or one problem document, on standard error."""
    if not as_json:
        note("error: " + " ".join(error.detail.split()))
        return
    problem: dict[str, Any] = {
        "type": error.problem_type,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
    }
    if error.field is not None:
        problem["field"] = error.field
    note(json.dumps(problem))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal; in a pipe, lines whose values a tab separates."""
    if not sys.stdout.isatty():
        for row in rows:
            say("\t".join(str(value) for value in row))
        return
    from rich import box  # noqa: PLC0415 - only terminals need it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(str(value) for value in row))
    Console().print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """One `name: value` a line, the values in a column."""
    width = max(map(len, fields))
    for name, value in fields.items():
        say(f"{name + ':':<{width + 2}}{'-' if value is None else value}")


@contextmanager
def progress(title: str, unit: str = "images") -> Iterator[Tell]:
    """Shows how far something is, on standard error: a bar on a terminal, lines in a pipe.

    The function that it gives is told what is done and what there is to do.
    """
    if sys.stderr.isatty():
        with _bar(title, unit) as tell:
            yield tell
    else:
        yield _lines(title, unit)


@contextmanager
def _bar(title: str, unit: str) -> Iterator[Tell]:
    from rich.console import Console  # noqa: PLC0415 - only terminals need it
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[remark]}"),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task(title, total=None, remark="")

        def tell(done: int, total: int, remark: str = "") -> None:
            bar.update(task, completed=done, total=total, remark=remark)

        yield tell


def _lines(title: str, unit: str) -> Tell:
    last_at, last_done = float("-inf"), -1

    def tell(done: int, total: int, remark: str = "") -> None:
        nonlocal last_at, last_done
        now = time.monotonic()
        if done == last_done or (done < total and now - last_at < LINE_SECONDS):
            return
        last_at, last_done = now, done
        note(f"{title}: {done:,} of {total:,} {unit}" + (f", {remark}" if remark else ""))

    return tell


def percent(share: float | None) -> str:
    """A share as text."""
    return "-" if share is None else f"{share:.1%}"


def decimals(value: float | None) -> str:
    """A score as text."""
    return "-" if value is None else f"{value:.3f}"


def write_file(path: Path, data: bytes) -> None:
    """Write a file that the user named, whole or not at all.

    Raises:
        StorageFailure: it cannot be written there.
    """
    incoming = path.with_name(f".{path.name}.incoming")
    try:
        incoming.write_bytes(data)
        incoming.replace(path)
    except OSError as error:
        incoming.unlink(missing_ok=True)
        raise StorageFailure(f"{path} cannot be written: {error.strerror or error}.") from error
