"""Stores and homes that cannot be written, and stores that fill up: real file systems, mounted."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from commands import DATAGEN
from mounts import enter, environment_of, shell
from running import wait_until

from datagen.client import Client

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("mounts")]


def test_home_that_is_read_only_is_refused_with_a_sentence(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    script = f"mount --bind {home} {home}; mount -o remount,ro,bind {home}; exec {DATAGEN} up"
    for command in (f"{script} --port 0", script.replace(" up", " db upgrade")):
        ran = subprocess.run(
            shell(command), env=environment_of(home), capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip
        assert ran.returncode == 1, ran.stderr
        assert "Traceback" not in ran.stderr
        assert str(home) in ran.stderr
        # SQLite gives no reason where it finds no file and may make none.
        assert "Read-only file system" in ran.stderr or "unable to open database" in ran.stderr
    assert list(home.iterdir()) == []


class Mounted:
    """A stack whose store is a small file system of its own, in a namespace of its own."""

    def __init__(self, home: Path, storage: Path, size: str) -> None:
        storage.mkdir()
        script = f"mount -t tmpfs -o size={size} none {storage}; exec {DATAGEN} up --port 0 --json"
        self.storage = storage
        self.process = subprocess.Popen(
            shell(script), env=environment_of(home, storage_url=storage.as_uri()),
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        url = json.loads(self.process.stdout.readline() or "{}")["url"]
        self.client = Client(url, (home / "api-key").read_text().strip())

    def inside(self, script: str) -> None:
        """Do something where the stack's store is mounted."""
        subprocess.run(enter(self.process.pid, script), check=True)

    def close(self) -> int:
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.mark.parametrize(
    ("fault", "mend", "words"),
    [
        ("mount -o remount,ro {at}", "mount -o remount,rw {at}", "the file system is read-only"),
        ("dd if=/dev/zero of={at}/rest bs=4k || true", "rm {at}/rest", "the disk is full"),
    ],
    ids=["read-only", "full"],
)
def test_store_that_takes_nothing_fails_the_job_with_that_sentence_and_takes_it_later(
    tmp_path: Path, fault: str, mend: str, words: str
) -> None:
    stack = Mounted(tmp_path / "home", tmp_path / "storage", "32m")
    try:
        client = stack.client
        good = client.jobs.wait(client.jobs.create("mnist", {"3": 300}, seed=1).id)
        assert good.state == "succeeded", good.error
        stack.inside(fault.format(at=stack.storage))

        job = client.jobs.wait(client.jobs.create("mnist", {"3": 300}, seed=2).id, timeout=200)
        export = client.exports.wait(client.exports.create(good.id, "npz").id, timeout=200)

        for ended in (job, export):
            assert ended.state == "failed"
            assert words in str(ended.error), ended.error
        assert (job.images_stored, export.digest) == (0, None)
        # What is there is read all the same.
        assert len(list(client.jobs.samples(good.id))) == 300
        stack.inside(mend.format(at=stack.storage))
        assert client.jobs.wait(client.jobs.retry(job.id).id, timeout=200).state == "succeeded"
        again = client.exports.wait(client.exports.create(good.id, "npz").id, timeout=200)
        assert again.state == "succeeded", again.error
        wait_until(lambda: client.jobs.get(job.id).images_stored == 300)
    finally:
        code = stack.close()
    assert code == 0
