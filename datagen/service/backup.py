"""Backups: all rows and all stored files of a service in one folder, and back again.

Rows are read in one transaction, so they fit each other; files are copied after that, so all that
the rows name is among them, unless it was removed meanwhile. The manifest is written last: a folder
without one is no backup. Rows lie as Parquet, one file a table, whatever the database was, so a
backup of SQLite can be restored into PostgreSQL.

What signs sessions and download links is left out, and so are links that sign in and the answers to
requests that may come again: whoever reads a backup cannot sign in with it. After it is restored,
people sign in again, and download links that were given away before end.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Engine,
    Float,
    Integer,
    LargeBinary,
    Uuid,
    func,
    insert,
    select,
)
from sqlalchemy import Table as Rows

from datagen.db.base import UtcDateTime
from datagen.db.migrate import current
from datagen.db.session import now, reading, writing
from datagen.db.tables import Table
from datagen.errors import Conflict, InvalidFile
from datagen.storage import Storage, digest_of

MANIFEST = "backup.json"
ROWS_AT_ONCE = 10_000
# What work has stored; uploads under way are nobody's yet.
PREFIXES = ("jobs/", "exports/", "training/", "figures/", "reports/", "datasets/", "models/")
# Tables of what lets somebody in for a while.
LEFT_OUT = frozenset({"secrets", "sign_ins", "ended_sessions", "replays"})
Tell = Callable[[str, int], None]


def backup(engine: Engine, storage: Storage, folder: Path, tell: Tell) -> dict[str, Any]:
    """Copy everything into a folder that is not there yet, or empty; returns the manifest.

    Args:
        engine: a database whose schema is this version's.
        storage: where the files lie.
        folder: appears when all of it is there.
        tell: told the name of what is copied, and how much of it is.

    Raises:
        Conflict: the folder holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"{folder} is not empty; name a folder that is empty or not there yet.")
    incoming = folder.with_name(f".{folder.name}.incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    (incoming / "tables").mkdir(parents=True)
    with reading(engine) as session:
        connection = session.connection()
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        moment = now(session)
        tables = {
            table.name: _write_rows(
                session.execute(
                    select(table).execution_options(yield_per=ROWS_AT_ONCE)
                ).partitions(),
                table,
                incoming / "tables" / f"{table.name}.parquet",
                tell,
            )
            for table in _backed_up()
        }
    files = _copy_out(storage, incoming / "files", tell)
    manifest = {
        "datagen": version("datagen"),
        "revision": current(engine),
        "made_at": moment.isoformat(),
        "tables": tables,
        "files": files,
    }
    (incoming / MANIFEST).write_text(json.dumps(manifest, indent=1))
    if folder.exists():
        folder.rmdir()
    incoming.replace(folder)
    return manifest


def restore(engine: Engine, storage: Storage, folder: Path, tell: Tell) -> dict[str, Any]:
    """Bring a backup into a database without rows and a store; returns the manifest.

    Files come first, each checked against its hash, and rows in one transaction after them: what is
    cut off leaves no row.

    Raises:
        InvalidFile: no backup, a damaged one, or one of another version's schema.
        Conflict: the database has rows.
    """
    manifest = read_manifest(folder)
    found = current(engine)
    if manifest["revision"] != found:
        raise InvalidFile(
            f"The backup is of revision {manifest['revision']} (datagen {manifest['datagen']}), "
            f"and the database is at {found}; restore it with that version, then run `datagen db "
            "upgrade`."
        )
    _refuse_rows(engine)
    _copy_in(storage, folder, manifest["files"], tell)
    with writing(engine) as session:
        for table in reversed(Table.metadata.sorted_tables):
            # The first start of a service makes rows of its own.
            session.execute(table.delete())
        for table in _backed_up():
            done = 0
            for rows in _read_rows(folder / "tables" / f"{table.name}.parquet", table):
                session.execute(insert(table), rows)
                done += len(rows)
                tell(table.name, done)
            if done != manifest["tables"].get(table.name):
                raise InvalidFile(
                    f"The backup's table {table.name!r} has {done:,} rows, and "
                    f"{manifest['tables'].get(table.name)} were written; take another backup."
                )
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a backup says of itself. Raises InvalidFile."""
    try:
        found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise InvalidFile(f"{folder} is no backup: {MANIFEST} cannot be read ({error}).") from None
    if not {"datagen", "revision", "tables", "files"} <= set(found):
        raise InvalidFile(f"{folder} is no backup: {MANIFEST} lacks fields; take another.")
    return found


def _backed_up() -> list[Rows]:
    return [table for table in Table.metadata.sorted_tables if table.name not in LEFT_OUT]


def _refuse_rows(engine: Engine) -> None:
    with reading(engine) as session:
        for name in ("jobs", "datasets", "exports"):
            table = Table.metadata.tables[name]
            count = session.scalar(select(func.count()).select_from(table)) or 0
            if count:
                raise Conflict(
                    f"The database has {count:,} {name} already; restore into an empty one, which "
                    "DATAGEN_DATABASE_URL or DATAGEN_HOME names."
                )


def _schema(table: Rows) -> pa.Schema:
    return pa.schema([(column.name, _kind(column)) for column in table.columns])


def _kind(column: Column[Any]) -> pa.DataType:
    """The Arrow type that a column's values are kept as."""
    kinds: list[tuple[type[Any] | tuple[type[Any], ...], pa.DataType]] = [
        (UtcDateTime, pa.timestamp("us", tz="UTC")),
        ((Uuid, JSON), pa.string()),
        (LargeBinary, pa.binary()),
        (Boolean, pa.bool_()),
        (Float, pa.float64()),
        (Integer, pa.int64()),
    ]
    return next((arrow for kind, arrow in kinds if isinstance(column.type, kind)), pa.string())


def _write_rows(parts: Iterator[Sequence[Any]], table: Rows, path: Path, tell: Tell) -> int:
    schema, done = _schema(table), 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in parts:
            columns = zip(*rows, strict=True)
            arrays = [
                pa.array([_out(value, column) for value in values], schema.field(column.name).type)
                for column, values in zip(table.columns, columns, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            done += len(rows)
            tell(table.name, done)
    return done


def _out(value: Any, column: Column[Any]) -> Any:
    if value is None:
        return None
    if isinstance(column.type, JSON):
        return json.dumps(value)
    return str(value) if isinstance(column.type, Uuid) else value


def _read_rows(path: Path, table: Rows) -> Iterator[list[dict[str, Any]]]:
    try:
        file = pq.ParquetFile(path)
        if set(file.schema_arrow.names) != set(table.columns.keys()):
            raise InvalidFile(f"{path} has other columns than the table {table.name!r}.")
        for batch in file.iter_batches(ROWS_AT_ONCE):
            yield [
                {column.name: _in(row[column.name], column) for column in table.columns}
                for row in batch.to_pylist()
            ]
    except (OSError, pa.ArrowException, ValueError) as error:
        raise InvalidFile(f"{path} cannot be read ({error}); take another backup.") from error


def _in(value: Any, column: Column[Any]) -> Any:
    if value is None:
        return None
    if isinstance(column.type, JSON):
        return json.loads(value)
    return UUID(value) if isinstance(column.type, Uuid) else value


def _copy_out(storage: Storage, folder: Path, tell: Tell) -> dict[str, str]:
    """Copy all files; their SHA-256 by key."""
    found: dict[str, str] = {}
    for prefix in PREFIXES:
        for one in storage.list(prefix):
            target = folder / one.key
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                source = storage.open(one.key)
            except FileNotFoundError:
                continue
            with source, target.open("wb") as copy:
                found[one.key] = digest_of(source, copy=copy)
            tell("files", len(found))
    return found


def _copy_in(storage: Storage, folder: Path, files: dict[str, str], tell: Tell) -> None:
    for done, (key, digest) in enumerate(files.items(), 1):
        path = folder / "files" / key
        try:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise InvalidFile(f"The backup's file {key} is damaged; take another backup.")
                file.seek(0)
                storage.put(key, file)
        except FileNotFoundError:
            raise InvalidFile(f"The backup's file {key} is missing.") from None
        tell("files", done)
