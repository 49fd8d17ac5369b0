"""Which workers a stack has, and which of them let others go first."""

from __future__ import annotations

import pytest

from datagen.embedded import programs

LIGHT = {"export-worker": "export", "control-worker": "control", "deliver-worker": "deliver"}
TORCH = "preview,quick,interactive,bulk,train"


@pytest.mark.parametrize(
    ("torch", "quick", "heavy", "nice"),
    [
        (
            True,
            True,
            {"worker": TORCH, "quick-worker": "preview,quick"},
            {"worker", "export-worker"},
        ),
        (True, False, {"worker": TORCH}, set()),
        (False, True, {}, set()),
    ],
)
def test_stack_has_workers_for_every_queue_and_those_that_somebody_waits_for_go_first(
    torch: bool, quick: bool, heavy: dict[str, str], nice: set[str]
) -> None:
    found = programs.workers({}, 3, torch=torch, quick=quick)

    commands = {program.name: program.command for program in found}
    queues = {
        name: command[command.index("--queues") + 1]
        for name, command in commands.items()
        if "--queues" in command
    }
    assert queues == heavy | LIGHT
    assert list(commands) == [*heavy, *LIGHT, "beat"]
    assert {name for name, command in commands.items() if "--nice" in command} == nice
