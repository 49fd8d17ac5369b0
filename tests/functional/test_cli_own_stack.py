from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("own-stack")


def test_generate_without_a_server_brings_its_own(datagen: Any, tmp_path: Path) -> None:
    # A long path: the broker's socket cannot lie in it. Folders of the same name as ours stand by.
    home = tmp_path / ("long-" * 20) / ("path-" * 12)
    here = tmp_path / "here"
    for name in ("workers", "migrations", "datagen"):
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    environment = {"DATAGEN_HOME": str(home), "DATAGEN_WORKERS": "1"}
    ran = datagen.run(
        "generate", "--labels", "3=5", "--out", "out", "--json", environment=environment, cwd=here
    )
    assert ran.code == 0, ran.err
    assert ran.json["images_stored"] == 5
    assert (here / "out" / "manifest.json").is_file()
    shown = datagen.run("job", "show", ran.json["id"], "--json", environment=environment, cwd=here)
    assert shown.json["state"] == "succeeded"
    assert not (home / "server.json").exists()


def test_doctor_in_an_empty_home_is_healthy_and_makes_nothing(datagen: Any, tmp_path: Path) -> None:
    ran = datagen.run("doctor", "--json", environment={"DATAGEN_HOME": str(tmp_path / "home")})
    assert ran.code == 0, ran.out
    found = {check["check"]: check["outcome"] for check in ran.json["checks"]}
    assert found["torch"] == "ok"
    assert found["database"] == found["server"] == "skipped"
    assert list(tmp_path.iterdir()) == []


def test_doctor_says_how_to_mend_what_is_broken(datagen: Any, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        ran = datagen.run(
            "doctor",
            "--json",
            environment={
                "DATAGEN_HOME": str(tmp_path / "home"),
                "DATAGEN_BROKER_URL": f"redis://127.0.0.1:{port}/0",
                "DATAGEN_URL": f"http://127.0.0.1:{port}",
                "DATAGEN_DEVICE": "cuda:7",
                "PATH": str(tmp_path),
            },
        )
    assert ran.code == 1
    broken = {
        check["check"]: check["mend"]
        for check in ran.json["checks"]
        if check["outcome"] == "broken"
    }
    assert set(broken) == {"broker", "server", "workers", "gpu"}
    assert "DATAGEN_DEVICE" in broken["gpu"]
    assert "DATAGEN_BROKER_URL" in broken["broker"]


@pytest.mark.parametrize("command", ["up", "api"])
def test_port_that_is_taken_is_one_line(datagen: Any, tmp_path: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = datagen.run(
            command,
            "--port",
            port,
            environment={
                "DATAGEN_HOME": str(tmp_path / "home"),
                "DATAGEN_BROKER_URL": "redis://127.0.0.1:1",
            },
        )
    assert ran.code == 2
    assert port in ran.err.splitlines()[-1]
    assert ran.err.splitlines()[-1].startswith("error: ")


def test_api_does_not_open_to_other_machines_without_a_key(datagen: Any, tmp_path: Path) -> None:
    environment = {
        "DATAGEN_HOME": str(tmp_path / "home"),
        "DATAGEN_BROKER_URL": "redis://127.0.0.1:1",
    }
    assert datagen.run("db", "upgrade", environment=environment).code == 0
    ran = datagen.run("api", "--host", "0.0.0.0", "--port", "0", environment=environment)  # noqa: S104 - it must refuse
    assert ran.code == 2
    assert "DATAGEN_API_KEY" in ran.err


def test_home_that_cannot_be_made_is_one_line(datagen: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    ran = datagen.run("job", "list", environment={"DATAGEN_HOME": str(tmp_path / "file" / "home")})
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines()[-1].startswith("error: ")


def test_ctrl_c_cancels_what_nobody_would_go_on_with(datagen: Any, tmp_path: Path) -> None:
    environment = {"DATAGEN_HOME": str(tmp_path / "home"), "DATAGEN_WORKERS": "1"}
    line = ["generate", "--per-label", "100000", "--json"]
    with datagen.start(*line, environment=environment) as command:
        assert command.stderr is not None
        while not command.stderr.readline().startswith("generating: "):
            assert command.poll() is None
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (130, "")
    assert err.endswith(" is cancelled.\n")
    job_id = err.split()[-3]
    shown = datagen.run("job", "show", job_id, "--json", environment=environment)
    assert shown.json["state"] == "cancelled"
