from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from environments import as_variables, clean_environment
from running import wait_until

from datagen.scratch import LOCK, PREFIX
from datagen.settings import Settings
from workers.__main__ import main, pool_of


@pytest.mark.parametrize("queues", [("bulk",), ("train",), ("bulk", "train", "control")])
def test_torch_runs_in_as_many_processes_as_the_settings_say(queues: tuple[str, ...]) -> None:
    assert pool_of(Settings(workers=3), queues, None) == ("prefork", 3)


def test_the_option_wins_over_the_settings() -> None:
    assert pool_of(Settings(workers=3), ("bulk",), 5) == ("prefork", 5)


def test_by_default_every_usable_core_has_a_process() -> None:
    usable = len(os.sched_getaffinity(0))
    assert pool_of(Settings(workers=None, device="cpu"), ("bulk",), None) == ("prefork", usable)


def test_exports_run_in_processes_that_may_be_killed() -> None:
    assert pool_of(Settings(workers=7), ("export",), None) == ("prefork", 2)
    assert pool_of(Settings(workers=7), ("control", "export"), None) == ("prefork", 2)


def test_ticks_alone_need_no_processes() -> None:
    assert pool_of(Settings(workers=7), ("control",), None)[0] == "threads"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "workers", *arguments],
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_worker_without_a_broker_says_which_variable_is_missing() -> None:
    refused = run("worker")
    assert refused.returncode == 78
    assert refused.stderr.strip().startswith("DATAGEN_BROKER_URL names no broker")


def test_a_setting_that_cannot_be_used_is_named() -> None:
    refused = run("beat", DATAGEN_TICK_SECONDS="never")
    assert refused.returncode == 78
    assert refused.stderr.startswith("DATAGEN_TICK_SECONDS is 'never'")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["worker", "--queues", "bulk,oops"], "'oops' is no queue"),
        (["worker", "--workers", "0"], "0 is less than 1"),
        ([], "command"),
    ],
)
def test_wrong_usage_is_named(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err


def test_worker_removes_the_temporary_folders_of_killed_processes_when_it_starts(
    tmp_path: Path,
) -> None:
    abandoned = tmp_path / f"{PREFIX}export-1"
    (abandoned / "files").mkdir(parents=True)
    (abandoned / LOCK).touch()
    # The folder goes though no broker is there.
    own = as_variables(home=tmp_path / "home", broker_url="redis://127.0.0.1:1")
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "workers", "worker", "--queues", "control"],
        env=clean_environment() | own | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as worker:
        try:
            wait_until(lambda: not abandoned.exists(), 60)
        finally:
            worker.kill()
