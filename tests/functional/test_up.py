from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running import Service, wait_until

pytestmark = pytest.mark.timeout(600)


def up(home: Path, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`datagen up` that is expected to refuse."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "datagen.cli", "up", *arguments],
        env={**os.environ, "DATAGEN_HOME": str(home)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def service(services: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A stack in a folder with its own `workers` and `migrations`, on a home of 150 characters."""
    folder = tmp_path_factory.mktemp("up")
    for name in ("workers", "migrations", "datagen", "celery"):
        package = folder / name
        package.mkdir()
        for module in ("__init__.py", "__main__.py", "app.py", "tasks.py", "env.py"):
            (package / module).write_text("raise SystemExit('the wrong one was imported')\n")
    home = folder / ("h" * 150)
    service = services(home, folder=folder, workers=1)
    service.start()
    return service


def test_serves_in_a_folder_with_packages_of_our_names_and_a_long_path(service: Service) -> None:
    job = service.client.jobs.create("mnist", per_label=5)
    assert service.wait_for_end(job.id) == "succeeded"
    service.assert_whole(job.id)
    assert (
        service.client.exports.wait(
            service.client.exports.create(job.id, "imagefolder").id, timeout=60
        ).state
        == "succeeded"
    )


def test_leaves_nothing_in_the_current_directory(service: Service) -> None:
    assert service.folder is not None
    made = {path.name for path in service.folder.iterdir()} - {service.home.name}
    assert made == {"workers", "migrations", "datagen", "celery"}


def test_key_and_state_are_for_the_owner_alone(service: Service) -> None:
    assert stat.S_IMODE(service.home.stat().st_mode) == 0o700
    assert stat.S_IMODE((service.home / "api-key").stat().st_mode) == 0o600


def test_second_stack_on_the_home_is_refused_and_the_first_is_named(service: Service) -> None:
    refused = up(service.home, "--port", "0")
    assert refused.returncode == 1
    assert "in use" in refused.stderr
    assert service.url in refused.stderr
    assert "Traceback" not in refused.stderr
    assert service.client.models.list().items


def test_taken_port_is_refused_by_its_number(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = up(tmp_path / "home", "--port", str(port))
    assert refused.returncode == 2
    assert str(port) in refused.stderr
    assert "Traceback" not in refused.stderr


def test_home_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = up(tmp_path / "file" / "home")
    assert refused.returncode == 1
    assert "DATAGEN_HOME" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_program_that_dies_is_started_again_and_nobody_is_turned_away(service: Service) -> None:
    killed = service.program("api")
    killed.kill()
    # The supervisor holds the listening socket: requests wait for the new process.
    assert service.client.models.list().items
    assert service.program("api").pid != killed.pid


def test_kill_9_leaves_nothing_and_the_next_stack_goes_on_until_ctrl_c(
    services: Callable[..., Service], tmp_path: Path
) -> None:
    settings = {"workers": 1, "batch_size": 100, "lease_seconds": 2, "tick_seconds": 0.5}
    first = services(tmp_path / "home", **settings)
    first.start()
    key = (first.home / "api-key").read_text()
    job = first.client.jobs.create("mnist", per_label=200)
    wait_until(lambda: any(batch.state == "succeeded" for batch in first.batches(job.id)))
    assert len(first.tree()) >= 8
    first.kill()
    wait_until(lambda: not first.survivors(), 15.0)
    assert any(batch.state != "succeeded" for batch in first.batches(job.id))

    second = services(tmp_path / "home", **settings)
    second.start()
    assert (second.home / "api-key").read_text() == key
    assert second.wait_for_end(job.id) == "succeeded"
    second.assert_whole(job.id)

    endless = second.client.jobs.create("mnist", per_label=100_000)
    wait_until(lambda: second.running(endless.id))
    assert len(second.tree()) >= 8
    second.process.send_signal(signal.SIGINT)
    assert second.close() == 0
    wait_until(lambda: not second.survivors(), 1.0)
    assert not (second.home / "server.json").exists()
