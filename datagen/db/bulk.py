"""Bulk writes: COPY on PostgreSQL, executemany on SQLite, both in the session's own transaction."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import numpy as np
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from datagen.shards import SampleBatch

_COLUMNS: Final = (
    'job_id, "index", label, score, judged_label, attempt, digest, first_source, second_source'
)
_COPY: Final = f"COPY samples ({_COLUMNS}) FROM STDIN (FORMAT BINARY)"
_INSERT: Final = f"INSERT INTO samples ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608

# Binary COPY is a signature, then for every row the number of its fields and each field after its
# length, big-endian. All our fields have a fixed width, so rows are one array, filled by columns.
# https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
_FIELDS: Final = (
    ("job_id", "V16", 16),
    ("index", ">i8", 8),
    ("label", ">i4", 4),
    ("score", ">f8", 8),
    ("judged_label", ">i4", 4),
    ("attempt", ">i2", 2),
    ("digest", "V32", 32),
    ("first_source", ">i8", 8),
    ("second_source", ">i8", 8),
)
_ROW: Final = np.dtype(
    [
        ("fields", ">i2"),
        *(part for name, kind, size in _FIELDS for part in ((f"{name}_size", ">i4"), (name, kind))),
    ]
)


def insert_samples(session: Session, job_id: UUID, samples: SampleBatch) -> None:
    """Write one row a sample; the images themselves are not looked at.

    Raises:
        sqlalchemy.exc.IntegrityError: an index that the job has a row for already.
    """
    if not len(samples.indices):
        return
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        _executemany(connection, job_id, samples)
    else:
        _copy(connection, job_id, samples)


def _executemany(connection: Connection, job_id: UUID, samples: SampleBatch) -> None:
    columns = (
        [job_id.hex] * len(samples.indices),
        samples.indices.tolist(),
        samples.labels.tolist(),
        samples.scores.tolist(),
        samples.judged_labels.tolist(),
        samples.attempts.tolist(),
        samples.digests,
        *samples.sources.T.tolist(),
    )
    connection.exec_driver_sql(_INSERT, list(zip(*columns, strict=True)))


def _copy(connection: Connection, job_id: UUID, samples: SampleBatch) -> None:
    import psycopg  # noqa: PLC0415 - a home on SQLite does not need it

    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - tells the type checker
    try:
        with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.write(_binary_rows(job_id, samples))
    except psycopg.Error as error:
        # Callers know the errors of SQLAlchemy, whichever way a statement went to the database.
        raise DBAPIError.instance(
            _COPY, None, error, psycopg.Error, dialect=connection.dialect
        ) from error


def _binary_rows(job_id: UUID, samples: SampleBatch) -> bytes:
    rows = np.empty(len(samples.indices), dtype=_ROW)
    rows["fields"] = len(_FIELDS)
    for name, _, size in _FIELDS:
        rows[f"{name}_size"] = size
    rows["job_id"] = np.void(job_id.bytes)
    rows["index"] = samples.indices
    rows["label"] = samples.labels
    rows["score"] = samples.scores
    rows["judged_label"] = samples.judged_labels
    rows["attempt"] = samples.attempts
    rows["digest"] = np.frombuffer(b"".join(samples.digests), dtype="V32")
    rows["first_source"], rows["second_source"] = samples.sources.T
    return _SIGNATURE + rows.tobytes() + _END
