"""Supervision: programs are started, restarted when they die, and stopped together."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from datagen.embedded import lifeline

LOOK_SECONDS = 0.1
LOG_LOOK_SECONDS = 10.0
LOG_BYTES = 10_000_000
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0
# A program that ran for this long was well; its next death starts the count anew.
WELL_AFTER_SECONDS = 20.0
# The second death in a row may be chance; the third is a pattern that somebody must see.
REPORTED_DEATHS = 3
LAST_WORDS_BYTES = 2000


@dataclass(frozen=True)
class Program:
    """What to run, in which environment, and when its turn comes to be stopped."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    pass_fds: Sequence[int] = ()
    stop_turn: int = 0
    stop_seconds: float = 8.0
    before_restart: Callable[[int], None] = field(default=lambda _deaths: None)


class Child:
    """A program's process, and how often it has died of late."""

    def __init__(self, program: Program, logs: Path) -> None:
        self.program = program
        self.log = logs / f"{program.name}.log"
        self.deaths = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._start_at = 0.0

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._process.pid if self._process else None

    def look(self) -> int | None:
        """Start it when it is time; returns the exit code if it has just died."""
        moment = time.monotonic()
        if self._process is None:
            if moment >= self._start_at:
                self._start(moment)
            return None
        code = self._process.poll()
        if code is None:
            return None
        self._kill_group(self._process.pid)
        self._process = None
        well = moment - self._started_at >= WELL_AFTER_SECONDS
        self.deaths = 1 if well else self.deaths + 1
        self._start_at = moment + min(FIRST_PAUSE * 2.0 ** (self.deaths - 1), LONGEST_PAUSE)
        return code

    def _start(self, moment: float) -> None:
        if self.deaths:
            self.program.before_restart(self.deaths)
        self.bound_log()
        self._started_at = moment
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the stack's own programs
                lifeline.command_line(self.program.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.program.environment),
                pass_fds=tuple(self.program.pass_fds),
                # Ctrl-C is the supervisor's; it stops the others in their order.
                start_new_session=True,
            )

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def end(self, deadline: float) -> None:
        """Wait until it has ended; past the deadline, kill it and its descendants."""
        if self._process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        self._kill_group(self._process.pid)
        self._process.wait()
        self._process = None

    @staticmethod
    def _kill_group(leader: int) -> None:
        # A worker that was killed may leave pool processes for the moment that they need to notice.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)

    def bound_log(self) -> None:
        """Keep the log and one older one below the limit; the writer appends, so it may go on."""
        try:
            if self.log.stat().st_size > LOG_BYTES:
                shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
                os.truncate(self.log, 0)
        except FileNotFoundError:
            return

    def last_words(self) -> str:
        """The last line of its log."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - LAST_WORDS_BYTES))
                lines = log.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


class Supervisor:
    """Keeps programs running from one thread, which lives as long as they do.

    The kernel ties each program to the thread that started it, so all are started from that one.
    """

    def __init__(
        self, programs: Sequence[Program], logs: Path, on_event: Callable[[str], None]
    ) -> None:
        self.children = [Child(program, logs) for program in programs]
        self._on_event = on_event
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start all programs."""
        self._thread.start()

    def stop(self) -> None:
        """Stop all programs, turn by turn; returns when none is left."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def child(self, name: str) -> Child:
        """The child of a name. Raises KeyError."""
        return {child.program.name: child for child in self.children}[name]

    def _run(self) -> None:
        try:
            bounded_at = time.monotonic()
            while not self._stop.is_set():
                for child in self.children:
                    self._look(child)
                self._stop.wait(LOOK_SECONDS)
                if time.monotonic() - bounded_at > LOG_LOOK_SECONDS:
                    bounded_at = time.monotonic()
                    for child in self.children:
                        child.bound_log()
        finally:
            self._end_all()

    def _look(self, child: Child) -> None:
        try:
            code = child.look()
        except OSError as error:
            self._on_event(f"{child.program.name} could not be started: {error}.")
            return
        if code is not None and child.deaths >= REPORTED_DEATHS:
            self._on_event(
                f"{child.program.name} has stopped {child.deaths} times in a row, last with exit "
                f"code {code}: {child.last_words()} (see {child.log})"
            )

    def _end_all(self) -> None:
        for turn in sorted({child.program.stop_turn for child in self.children}):
            ending = [child for child in self.children if child.program.stop_turn == turn]
            began = time.monotonic()
            for child in ending:
                child.ask_to_stop()
            for child in ending:
                child.end(began + child.program.stop_seconds)
