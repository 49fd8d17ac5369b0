from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from datagen.cli import generate as generate_module
from datagen.cli.app import app
from datagen.cli.examples import EXAMPLES

SERVERS = {"up", "api", "worker", "beat"}


@pytest.mark.parametrize("words", EXAMPLES)
def test_every_command_has_help(command: Any, words: str) -> None:
    ran = command(*words.split(), "--help")
    assert ran.code == 0
    assert "Usage:" in ran.out
    assert "Example: datagen" in ran.out
    assert ("--json" in ran.out) == (words not in SERVERS - {"up"})


@pytest.mark.parametrize("words", EXAMPLES)
def test_every_example_is_one_of_its_command_and_can_be_read(words: str) -> None:
    program, *arguments = shlex.split(EXAMPLES[words])
    names = words.split()
    assert [program, *arguments[: len(names)]] == ["datagen", *names]
    command: Any = get_command(app)
    for name in names:
        command = command.commands[name]
    # Whatever it has no option for is refused here.
    command.make_context(words, arguments[len(names) :])


def test_shells_complete_commands() -> None:
    program = Path(sys.executable).with_name("datagen")
    asked = {
        "_DATAGEN_COMPLETE": "complete_bash",
        "COMP_WORDS": "datagen job ca",
        "COMP_CWORD": "2",
    }
    ran = subprocess.run(
        [program], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert ran.stdout.split() == ["cancel"], ran.stderr


def test_version(command: Any) -> None:
    assert command("--version").out == f"datagen {version('datagen')}\n"


@pytest.mark.parametrize("words", ["", "job", "dataset", "export", "model", "db"])
def test_without_a_command_there_is_help_and_code_2(command: Any, words: str) -> None:
    ran = command(*words.split())
    assert (ran.code, ran.out) == (2, "")
    assert "Commands:" in ran.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "nonsense"),
        ("generate --nope", "--nope"),
        ("generate", "--per-label"),
        ("generate --labels 3=5 --per-label 2", "--per-label"),
        ("generate --per-label 0", "greater than or equal to 1"),
        ("generate --per-label 1.5", "--per-label"),
        ("generate --labels 3", "'3'"),
        ("generate --labels 3=", "'3='"),
        ("generate --labels =3", "'=3'"),
        ("generate --labels 3=x", "'3=x'"),
        ("generate --labels 3=-1", "'3=-1'"),
        ("generate --labels 3=1,", "''"),
        ("generate --labels 3=1,3=2", "twice"),
        ("generate --labels 3=0", "at least 1"),
        ("generate --per-label 1 --seed -1", "--seed is -1"),
        ("generate --per-label 1 --seed 9223372036854775808", "--seed is 9223372036854775808"),
        ("generate --per-label 1 --temperature nan", "--temperature is nan"),
        ("generate --per-label 1 --temperature -1", "--temperature is -1"),
        ("generate --per-label 1 --detach --out x", "leave one out"),
        ("generate --per-label 1 --detach", "datagen up"),
        ("train m --dataset d --detach", "datagen up"),
        ("export create", "JOB"),
        ("train m --dataset d --time-budget 5", "90s, 5m or 2h"),
        ("worker --queues bulk,nope", "'nope'"),
        ("worker", "DATAGEN_BROKER_URL"),
        ("beat", "DATAGEN_BROKER_URL"),
        ("api --port 70000", "65535"),
        ("demo --per-label 0", "greater than or equal to 1"),
        ("demo --seed -1", "--seed is -1"),
    ],
)
def test_wrong_command_line_is_one_line_and_code_2(command: Any, line: str, words: str) -> None:
    ran = command(*line.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert words in ran.err


def test_error_with_json_is_a_problem_on_standard_error(command: Any) -> None:
    ran = command("generate", "--labels", "3=x", "--json")
    assert (ran.code, ran.out) == (2, "")
    problem = json.loads(ran.err)
    assert problem["type"] == "urn:datagen:problem:invalid-request"
    assert "'3=x'" in problem["detail"]


def test_setting_that_cannot_be_used_is_named(
    command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATAGEN_WORKERS", "many")
    ran = command("job", "list")
    assert ran.code == 2
    assert "DATAGEN_WORKERS is 'many'" in ran.err


def test_server_that_does_not_answer_is_one_line_and_code_1(
    command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DATAGEN_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        ran = command("job", "list")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: No server answers at http://127.0.0.1:")
    assert ran.err.count("\n") == 1


def test_surprise_is_one_line_without_traceback(
    command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprise(*_: object) -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(generate_module, "_check", surprise)
    ran = command("generate", "--per-label", "1")
    assert ran.code == 1
    assert ran.err.startswith("error: ZeroDivisionError: odd.")
    assert ran.err.count("\n") == 1


def test_out_that_has_files_is_refused_before_any_work(command: Any, tmp_path: Any) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    for line in (
        ["generate", "--per-label", "1"],
        ["export", "create", "x"],
        ["export", "download", "x"],
    ):
        ran = command(*line, "--out", str(full))
        assert ran.code == 2
        assert str(full) in ran.err
    assert [path.name for path in full.iterdir()] == ["mine.txt"]
