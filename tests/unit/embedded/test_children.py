from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from datagen.embedded import children
from datagen.embedded.children import Child, Program, Supervisor


def program(code: str, name: str = "one", **options: object) -> Program:
    command = [sys.executable, "-I", "-S", "-c", code]
    return Program(name, command, dict(os.environ), **options)  # type: ignore[arg-type]


@contextmanager
def supervised(
    logs: Path, *programs: Program, on_event: Callable[[str], None] = lambda _: None
) -> Iterator[Supervisor]:
    supervisor = Supervisor(programs, logs, on_event)
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


STAY = "import time; print('here', flush=True); time.sleep(600)"


def test_what_dies_is_started_again(tmp_path: Path) -> None:
    with supervised(tmp_path, program(STAY)) as supervisor:
        child = supervisor.child("one")
        until(lambda: child.log.exists() and "here" in child.log.read_text())
        first = child.pid
        assert first is not None
        os.kill(first, 9)
        until(lambda: child.pid not in {None, first})
        until(lambda: child.log.read_text().count("here") == 2)


def test_nothing_is_left_after_stop_even_of_a_program_that_does_not_listen(tmp_path: Path) -> None:
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); " + STAY
    with supervised(tmp_path, program(deaf, stop_seconds=0.2)) as supervisor:
        child = supervisor.child("one")
        until(lambda: child.log.exists() and "here" in child.log.read_text())
        pid = child.pid
        assert pid is not None
    assert not psutil.pid_exists(pid)


def test_grandchildren_go_with_their_parent(tmp_path: Path) -> None:
    forks = f"import os; os.fork(); print(os.getpid(), flush=True); {STAY}"
    with supervised(tmp_path, program(forks)) as supervisor:
        child = supervisor.child("one")
        until(lambda: child.log.exists() and child.log.read_text().count("here") == 2)
        pids = [int(word) for word in child.log.read_text().split() if word.isdigit()]
        assert len(pids) == 2
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_stopping_goes_by_turns(tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    code = (
        "import signal, sys, time\n"
        f"def end(*_): open({str(ends)!r}, 'a').write(sys.argv[1]); sys.exit()\n"
        "signal.signal(15, end); print('here', flush=True); time.sleep(600)"
    )
    programs = [
        Program(name, [*program(code).command, name], dict(os.environ), stop_turn=turn)
        for name, turn in (("b", 1), ("a", 0))
    ]
    with supervised(tmp_path, *programs) as supervisor:
        for child in supervisor.children:
            until(lambda log=child.log: log.exists() and "here" in log.read_text())  # type: ignore[misc]
    assert ends.read_text() == "ab"


def test_a_program_that_keeps_dying_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "FIRST_PAUSE", 0.01)
    told: list[str] = []
    broken = program("import sys; sys.stderr.write('no such device\\n'); sys.exit(3)")
    with supervised(tmp_path, broken, on_event=told.append):
        until(lambda: told)
    assert "stopped 3 times" in told[0]
    assert "exit code 3" in told[0]
    assert "no such device" in told[0]


def test_a_program_that_is_not_there_is_reported(tmp_path: Path) -> None:
    told: list[str] = []
    missing = Program("one", ["/nowhere/at/all"], {})
    with supervised(tmp_path, missing, on_event=told.append):
        until(lambda: told)
    assert "/nowhere/at/all" in told[0]


def test_log_stays_bounded_and_its_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "LOG_BYTES", 1000)
    child = Child(program(STAY), tmp_path)
    with child.log.open("ab", buffering=0) as log:
        log.write(b"x" * 1001)
        child.bound_log()
        log.write(b"more")
    assert child.log.read_bytes() == b"more"
    assert (tmp_path / "one.log.1").stat().st_size == 1001


def test_program_dies_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = f"import os; open({str(note)!r}, 'w').write(str(os.getpid())); {STAY}"
    outer = (
        "import subprocess, sys\n"
        "from datagen.embedded import lifeline\n"
        f"subprocess.Popen(lifeline.command_line([sys.executable, '-c', {code!r}]))\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", outer], stdin=subprocess.PIPE) as supervisor:
        until(lambda: note.exists() and note.read_text())
        supervisor.kill()
    pid = int(note.read_text())
    until(lambda: not psutil.pid_exists(pid))
