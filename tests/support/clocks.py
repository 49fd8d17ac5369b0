"""A wall clock that a test sets, for a whole stack: forward, back, while its processes run."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

SOURCE = Path(__file__).with_name("clock_shim.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")
# The clock of a test's database, shifted: the function in `public` is found before the system's.
_DATABASE_CLOCK = """
CREATE SCHEMA clock;
CREATE TABLE clock.ahead (seconds double precision NOT NULL);
INSERT INTO clock.ahead VALUES (0);
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
  'SELECT pg_catalog.clock_timestamp() + (SELECT seconds FROM clock.ahead) * interval ''1 second''';
ALTER DATABASE {name} SET search_path = public, pg_catalog;
"""


@dataclass(frozen=True)
class Clock:
    """What the processes of a stack, and its database, take for the time.

    Attributes:
        library: loaded into each of the processes.
        file: holds by how many seconds their clock is ahead.
        database_url: on PostgreSQL, whose clock counts there.
    """

    library: Path
    file: Path
    database_url: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process must find, so that it has this clock."""
        return {"LD_PRELOAD": str(self.library), "CLOCK_SHIFT_FILE": str(self.file)}

    def set_ahead(self, seconds: float) -> None:
        """Set the clock of all, whatever they are at."""
        with self.file.open("r+b") as file:
            file.write(struct.pack("d", seconds))
        if self._is_postgres():
            self._run(f"UPDATE clock.ahead SET seconds = {float(seconds)}")  # noqa: S608 - a number

    @staticmethod
    def real_now() -> float:
        """Seconds since 1970 by the machine's clock, which nobody sets."""
        return time.time()

    def prepare(self) -> None:
        """Give the database a clock that can be set."""
        self.file.write_bytes(struct.pack("d", 0.0))
        if self._is_postgres():
            self._run(_DATABASE_CLOCK.format(name=make_url(self.database_url).database))

    def _is_postgres(self) -> bool:
        return self.database_url.startswith("postgresql")

    def _run(self, statements: str) -> None:
        url = make_url(self.database_url).set(drivername="postgresql")
        plain = url.render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(statements.encode())


def clock_of(folder: Path, database_url: str) -> Clock:
    """A clock that goes right until it is set."""
    if COMPILER is None:
        pytest.fail("There is no C compiler, which these tests need; install gcc or clang.")
    library = folder / "clock.so"
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-O1", "-w", "-o", library, SOURCE, "-ldl", "-lpthread"],
        check=True,
    )
    clock = Clock(library, folder / "ahead", database_url)
    clock.prepare()
    return clock
