from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from datagen.scratch import HIDDEN_PREFIX, LOCK, PREFIX, scratch, scratch_beside, sweep_scratch

HOLDS = """
import sys
from pathlib import Path
from datagen.scratch import scratch
with scratch("test", within=Path(sys.argv[1])) as folder:
    (folder / "file").write_text("content")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process with a scratch folder of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.communicate()


def test_folder_is_empty_and_goes_at_the_end(tmp_path):
    with scratch("test", within=tmp_path) as folder:
        assert list(folder.iterdir()) == []
        (folder / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_folder_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not(tmp_path, holder):
    process, folder = holder
    assert sweep_scratch(tmp_path) == 0
    assert (folder / "file").read_text() == "content"
    process.kill()
    process.wait()
    assert sweep_scratch(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_folder_that_goes_while_it_is_looked_at_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / f"{PREFIX}x").mkdir()

    def removed(folder):
        folder.rmdir()
        raise FileNotFoundError(folder)

    monkeypatch.setattr(Path, "lstat", removed)
    assert sweep_scratch(tmp_path) == 0


def test_name_as_long_as_names_may_be_has_a_folder_beside_it(tmp_path):
    with scratch_beside(tmp_path / ("é" * 127)) as folder:
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_own_folder_is_not_swept(tmp_path):
    with scratch("test", within=tmp_path) as folder:
        assert sweep_scratch(tmp_path) == 0
        assert folder.is_dir()


def test_folder_that_is_only_being_created_is_not_swept(tmp_path):
    bare, unlocked = tmp_path / f"{PREFIX}bare", tmp_path / f"{PREFIX}unlocked"
    for folder in (bare, unlocked):
        folder.mkdir()
    (unlocked / LOCK).touch()
    assert sweep_scratch(tmp_path) == 0
    past = time.time() - 3600
    for path in (unlocked / LOCK, bare, unlocked):
        os.utime(path, (past, past))
    assert sweep_scratch(tmp_path) == 2


def test_what_is_not_ours_is_not_swept(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "files").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    (tmp_path / f"{PREFIX}file").touch()
    (tmp_path / "other").mkdir()
    locked = tmp_path / f"{PREFIX}linked-lock"
    (locked / "files").mkdir(parents=True)
    (locked / LOCK).symlink_to(elsewhere)
    assert sweep_scratch(tmp_path) == 0
    assert len(list(tmp_path.iterdir())) == 5


def test_folder_of_another_user_is_not_swept(tmp_path, monkeypatch):
    (tmp_path / f"{PREFIX}theirs" / "files").mkdir(parents=True)
    (tmp_path / f"{PREFIX}theirs" / LOCK).touch()
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    assert sweep_scratch(tmp_path) == 0


def test_the_systems_folder_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch("test") as folder:
        assert folder.is_relative_to(tmp_path)
        assert sweep_scratch() == 0
    assert sweep_scratch(tmp_path / "missing") == 0


def test_next_one_beside_a_file_removes_what_a_killed_process_left_there(tmp_path):
    left = tmp_path / f"{HIDDEN_PREFIX}out-1"
    (left / "files").mkdir(parents=True)
    (left / LOCK).touch()
    with scratch_beside(tmp_path / "out") as folder:
        assert folder.parent.parent == tmp_path
        assert not left.exists()
