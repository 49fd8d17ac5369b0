"""Faults for a running service, as a seed says: kills, stops, lost messages, storage, database."""

from __future__ import annotations

import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil
import psycopg
from redis import Redis
from redis.exceptions import RedisError
from running import PROGRAMS, Service
from sqlalchemy import make_url

# Every connection to the service's database but the one that says so.
CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
# Kinds of fault, as a summary names them; the last two are of one database each.
POOL_KILLS = "kills of pool processes"
PROGRAM_KILLS = "kills of programs"
STOPS = "stops of processes"
LOSSES = "losses of all messages"
REFUSALS = "refusals of the store"
CUTS = "cuts of all connections to the database"
LOCKS = "locks of the database"


@dataclass
class Chaos:
    """Does something terrible to a service, again and again.

    Attributes:
        service: the victim.
        database_url: its database.
        chance: decides what is done, to whom and for how long.
        lease_seconds: what a stopped worker is kept beyond.
        done: how often each kind of fault was staged.
    """

    service: Service
    database_url: str
    chance: random.Random
    lease_seconds: float
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._faults: list[tuple[Callable[[], str | None], int]] = [
            # A program takes seconds to be back, and longer each time; were most faults such kills,
            # nothing would be at work for the others to strike.
            (self._kill_program, 10),
            (self._kill_torch_child, 10),
            (self._kill_light_child, 14),
            (self._stop_child, 8),
            (self._stop_program, 8),
            (self._lose_messages, 10),
            (self._refuse_writes, 12),
            (self._cut_database, 14),
        ]

    def strike(self) -> None:
        """One fault that found its victim, and the end of those whose time is over."""
        faults, weights = zip(*self._faults, strict=True)
        name = None
        while name is None:
            self.recover()
            with suppress(psutil.Error, RedisError, OSError):
                name = self.chance.choices(faults, weights)[0]()
        self.done[name] += 1

    def recover(self, *, all_of_it: bool = False) -> None:
        """Let go on what was stopped or refused for long enough, or all of it."""
        moment = time.monotonic()
        due = [one for one in self._later if all_of_it or one[0] <= moment]
        self._later = [one for one in self._later if one not in due]
        for _, undo in due:
            undo()

    def never_staged(self) -> set[str]:
        """Kinds of fault that this database allows and that found no victim."""
        own = LOCKS if self.database_url.startswith("sqlite") else CUTS
        kinds = {POOL_KILLS, PROGRAM_KILLS, STOPS, LOSSES, REFUSALS, own}
        return kinds - set(self.done)

    def summary(self) -> str:
        """What was done, in a sentence."""
        return f"{self.done.total():,} faults: " + ", ".join(
            f"{count} {name}" for name, count in sorted(self.done.items())
        )

    # Processes.

    def _kill_torch_child(self) -> str | None:
        return self._kill(self._children("worker"), POOL_KILLS)

    def _kill_light_child(self) -> str | None:
        return self._kill(self._children("export-worker"), POOL_KILLS)

    def _kill_program(self) -> str | None:
        found = self.service.running_program(self.chance.choice(sorted(PROGRAMS)))
        return self._kill([found] if found else [], PROGRAM_KILLS)

    def _kill(self, victims: list[psutil.Process], name: str) -> str | None:
        if not victims:
            return None
        self.chance.choice(victims).kill()
        return name

    def _children(self, program: str) -> list[psutil.Process]:
        parent = self.service.running_program(program)
        return self.service.pool_of(parent) if parent else []

    def _stop_child(self) -> str | None:
        # Longer than the lease: another worker takes the work over, and this one wakes up stale.
        victims = self._children(self.chance.choice(["worker", "export-worker"]))
        return self._stop(victims, 2.5 * self.lease_seconds) if victims else None

    def _stop_program(self) -> str | None:
        found = self.service.running_program(self.chance.choice(sorted(PROGRAMS)))
        return self._stop([found], self.chance.uniform(0.5, 4.0)) if found else None

    def _stop(self, victims: list[psutil.Process], seconds: float) -> str:
        for process in victims:
            process.send_signal(signal.SIGSTOP)

        def go_on() -> None:
            for process in victims:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

        self._undo_in(seconds, go_on)
        return STOPS

    def _undo_in(self, seconds: float, undo: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, undo))

    # What processes rely on.

    def _lose_messages(self) -> str:
        path = self.service.home / "valkey" / "valkey.sock"
        with Redis(unix_socket_path=str(path), socket_timeout=2) as broker:
            broker.flushall()
        return LOSSES

    def _refuse_writes(self) -> str | None:
        """Have a file where the store's folder for unfinished files should be."""
        incoming = self.service.home / "storage" / ".incoming"
        aside = incoming.with_name(".incoming-aside")
        if not incoming.is_dir() or aside.exists():
            return None
        incoming.rename(aside)
        try:
            incoming.touch(exist_ok=False)
        except FileExistsError:
            # A writer was quicker and has made the folder again: nothing was refused.
            for path in aside.iterdir():
                path.rename(incoming / path.name)
            aside.rmdir()
            return None

        def accept() -> None:
            incoming.unlink()
            aside.rename(incoming)

        self._undo_in(self.chance.uniform(0.2, 2.0), accept)
        return REFUSALS

    def _cut_database(self) -> str | None:
        if self.database_url.startswith("sqlite"):
            return self._lock_sqlite()
        url = make_url(self.database_url).set(drivername="postgresql")
        plain = url.render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(CUT)
        return CUTS

    def _lock_sqlite(self) -> str | None:
        """Keep every other writer out for a while."""
        path = str(make_url(self.database_url).database)
        # No longer, for who has it may be a process that only this one lets go on.
        holder = sqlite3.connect(path, timeout=0.2, isolation_level=None, check_same_thread=False)
        try:
            holder.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            holder.close()
            return None
        self._undo_in(self.chance.uniform(0.2, 2.0), holder.close)
        return LOCKS


@contextmanager
def in_background(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do work in a thread until the block ends; the thread's error is raised then."""
    over, errors = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            work(over)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="user")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if errors:
        raise errors[0]
