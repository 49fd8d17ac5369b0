"""Readers: what comes back, what limits hold them, and when they end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from running import wait_until

from datagen.datasets.reading import ReadOptions
from datagen.errors import Cancelled, InvalidFile, NotFound
from datagen.images import encode_png
from datagen.service import datasets
from datagen.service.reader import FileReader, _server, prepare_reader
from datagen.settings import Settings


@pytest.fixture
def upload(tmp_path):
    """A dataset of two classes in a Parquet file."""
    images = np.arange(4 * 16, dtype=np.uint8).reshape(4, 1, 4, 4)
    table = pa.table({"image": encode_png(images), "label": ["ant", "bee"] * 2})
    pq.write_table(table, tmp_path / "upload")
    return tmp_path / "upload"


def test_file_is_read_in_another_process(upload):
    found = datasets.inspect(FileReader(Settings()), upload, ReadOptions())
    assert found.class_names == ["ant", "bee"]
    assert found.image_shape == [1, 4, 4]


def test_error_of_the_task_is_raised_here_with_its_class_sentence_and_field(tmp_path):
    (tmp_path / "upload").write_bytes(b"no dataset")
    with pytest.raises(InvalidFile, match="not an archive"):
        datasets.inspect(FileReader(Settings()), tmp_path / "upload", ReadOptions())
    settings = Settings(dataset_roots=tmp_path.as_uri())
    request = {"url": f"{tmp_path.as_uri()}/missing", "options": {}, "folder": str(tmp_path)}
    with pytest.raises(NotFound, match="nothing at"):
        FileReader(settings).read("inspect", request)


def test_memory_beyond_the_limit_is_a_sentence_and_the_next_file_is_read(tmp_path, upload):
    # 200 MB of names in one column of text, within a limit of 64 MB.
    table = pa.table({"image": [b"x"], "label": ["y" * 200_000_000]})
    pq.write_table(table, tmp_path / "large", compression="zstd")
    reader = FileReader(Settings(reader_memory_bytes=64_000_000))
    with pytest.raises(InvalidFile, match="DATAGEN_READER_MEMORY_BYTES"):
        datasets.inspect(reader, tmp_path / "large", ReadOptions())
    assert datasets.inspect(reader, upload, ReadOptions()).class_names == ["ant", "bee"]


def test_time_beyond_the_limit_is_a_sentence(tmp_path):
    reader = FileReader(Settings(reader_seconds=0.2))
    os.mkfifo(tmp_path / "upload")
    with pytest.raises(InvalidFile, match="DATAGEN_READER_SECONDS"):
        datasets.inspect(reader, tmp_path / "upload", ReadOptions())
    wait_until(lambda: not readers(), 10)


def readers() -> list[psutil.Process]:
    assert _server._process is not None
    found = psutil.Process(_server._process.pid).children()
    return [one for one in found if one.status() != psutil.STATUS_ZOMBIE]


class Waiting:
    """Asks a reader for what never comes, and does something when it has begun."""

    def __init__(self, tmp_path: Path, act) -> None:
        os.mkfifo(tmp_path / "upload")
        self.path, self.act, self.began = tmp_path / "upload", act, time.monotonic()

    def check(self) -> None:
        if _server._process is not None and readers():
            self.act()
        assert time.monotonic() - self.began < 60, "no reader came"


def test_reader_ends_when_nobody_waits_for_it_any_more(tmp_path):
    def stop():
        raise Cancelled("The client went away.")

    waiting = Waiting(tmp_path, stop)
    with pytest.raises(Cancelled):
        datasets.inspect(FileReader(Settings(), waiting.check), waiting.path, ReadOptions())
    wait_until(lambda: not readers(), 10)


def test_reader_that_is_killed_is_a_sentence(tmp_path):
    def kill():
        for one in readers():
            one.kill()

    waiting = Waiting(tmp_path, kill)
    with pytest.raises(InvalidFile, match="The process that read the file was killed"):
        datasets.inspect(FileReader(Settings(), waiting.check), waiting.path, ReadOptions())


def test_server_that_was_killed_is_started_again(upload):
    prepare_reader()
    assert _server._process is not None
    _server._process.send_signal(signal.SIGKILL)
    assert datasets.inspect(FileReader(Settings()), upload, ReadOptions()).counts
