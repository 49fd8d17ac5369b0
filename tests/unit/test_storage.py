from __future__ import annotations

import errno
import io
import os
import stat
import threading
import uuid
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from datagen.errors import InvalidRequest, StorageFailure
from datagen.storage import INCOMING, FileStorage, ObjectStorage, open_storage


@pytest.fixture(params=["file", "memory", "s3"])
def store(request, tmp_path):
    """Every backend; all keep the same contract."""
    if request.param == "file":
        yield FileStorage(tmp_path / "store")
        return
    if request.param == "s3":
        server = request.getfixturevalue("reached")
        yield ObjectStorage(f"s3://{server.bucket}/{uuid.uuid4().hex}")
        return
    memory = ObjectStorage(f"memory://{uuid.uuid4().hex}")
    yield memory
    for found in list(memory.list("")):
        memory.delete(found.key)


def keys(store, prefix):
    return sorted(found.key for found in store.list(prefix))


@pytest.mark.parametrize("data", [b"", b"pixels", os.urandom(3_000_000)], ids=len)
def test_what_was_put_is_read_back(store, data):
    store.put("jobs/1/a.parquet", data)

    assert store.get("jobs/1/a.parquet") == data
    with store.open("jobs/1/a.parquet") as file:
        assert file.read() == data


def test_file_is_put_from_where_it_stands(store):
    file = io.BytesIO(b"headpixels" * 300_000)
    file.seek(4)

    store.put("exports/1/a.zip", file)

    assert store.get("exports/1/a.zip") == file.getvalue()[4:]


def test_reader_seeks(store):
    store.put("a", b"0123456789")

    with store.open("a") as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"789"
        file.seek(2)
        assert file.read(2) == b"23"


def test_second_put_replaces_the_first(store):
    store.put("a", b"one")
    store.put("a", b"two")

    assert store.get("a") == b"two"
    assert keys(store, "") == ["a"]


def test_exists_tells_what_is_there(store):
    store.put("jobs/1/a", b"x")

    assert store.exists("jobs/1/a")
    assert not store.exists("jobs/1/b")
    assert not store.exists("jobs/1")


@pytest.mark.parametrize("key", ["gone", "jobs", "jobs/1", "jobs/1/a/further"])
def test_key_that_is_not_there_is_file_not_found(store, key):
    store.put("jobs/1/a", b"x")

    with pytest.raises(FileNotFoundError):
        store.get(key)
    with pytest.raises(FileNotFoundError):
        store.open(key)


def test_delete_removes_and_may_be_repeated(store):
    store.put("jobs/1/a", b"x")

    for _ in range(2):
        store.delete("jobs/1/a")
    store.delete("never/there")

    assert not store.exists("jobs/1/a")


def test_list_gives_the_keys_that_begin_with_the_prefix(store):
    for key in ("jobs/1/a", "jobs/1/b", "jobs/10", "jobs2/c", "models/d"):
        store.put(key, b"x")

    assert keys(store, "jobs/") == ["jobs/1/a", "jobs/1/b", "jobs/10"]
    assert keys(store, "jobs/1") == ["jobs/1/a", "jobs/1/b", "jobs/10"]
    assert keys(store, "jobs") == ["jobs/1/a", "jobs/1/b", "jobs/10", "jobs2/c"]
    assert len(keys(store, "")) == 5
    assert keys(store, "nothing/") == []


def test_list_tells_size_and_age(store):
    store.put("jobs/1/a", b"12345")

    (found,) = store.list("jobs/")

    assert found.size == 5
    assert found.changed_at.tzinfo is not None
    assert abs(datetime.now(UTC) - found.changed_at) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../up", "jobs/../../up", "a\0b", "a\\b", ".", "./a", "a//b", "a/"]
)
def test_key_that_leaves_the_root_or_has_two_spellings_is_refused(store, key):
    for verb in (store.get, store.open, store.exists, store.delete):
        with pytest.raises(InvalidRequest, match="storage key"):
            verb(key)
    with pytest.raises(InvalidRequest, match="storage key"):
        store.put(key, b"x")


def test_readers_see_the_old_object_or_the_new_one_never_a_part(store):
    versions = {bytes([number]) * 2_000_000 for number in range(2)}
    seen = set()
    store.put("a", next(iter(versions)))
    done = threading.Event()

    def write():
        for _ in range(10):
            for data in versions:
                store.put("a", data)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        seen.add(store.get("a"))
    writer.join()

    assert seen <= versions


class _Breaks(io.BytesIO):
    """A source that fails when half of it has been read."""

    def read(self, size=-1):
        if self.tell():
            raise OSError(errno.EIO, "input/output error")
        return super().read(min(size, 10))


def test_failed_put_leaves_the_old_object_and_no_rest(tmp_path):
    store = FileStorage(tmp_path)
    store.put("a", b"old")

    with pytest.raises(OSError, match="input/output"):
        store.put("a", _Breaks(b"x" * 20))

    assert store.get("a") == b"old"
    assert keys(store, INCOMING) == []


def test_what_a_killed_writer_left_is_listed_apart(tmp_path):
    store = FileStorage(tmp_path)
    store.put("a", b"x")
    (tmp_path / INCOMING / "left").write_bytes(b"half")

    assert keys(store, "") == ["a"]
    assert keys(store, INCOMING) == [f"{INCOMING}left"]
    store.delete(f"{INCOMING}left")
    assert keys(store, INCOMING) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "not writable"),
        (errno.EROFS, "read-only"),
    ],
)
def test_refusal_of_the_disk_is_one_sentence(tmp_path, monkeypatch, number, words):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)

    with pytest.raises(StorageFailure, match=words) as caught:
        FileStorage(tmp_path).put("a", b"x")
    assert str(tmp_path) in caught.value.detail
    assert keys(FileStorage(tmp_path), INCOMING) == []


def test_file_in_the_place_of_the_folder_is_one_sentence(tmp_path):
    (tmp_path / "taken").write_bytes(b"")

    with pytest.raises(StorageFailure, match="a file is where a folder should be"):
        FileStorage(tmp_path / "taken").put("a", b"x")


def test_stored_files_are_not_executable(tmp_path):
    FileStorage(tmp_path).put("a", b"x")

    assert not stat.S_IMODE((tmp_path / "a").stat().st_mode) & 0o111


def test_url_names_the_backend(tmp_path):
    folder = tmp_path / "50% ünï #1?"

    opened = open_storage(folder.as_uri())

    assert isinstance(opened, FileStorage)
    assert opened.root == folder
    assert isinstance(open_storage("memory://x"), ObjectStorage)


@pytest.mark.parametrize("url", ["", "ftp://host/x", "/just/a/path", "http://host/bucket"])
def test_other_urls_are_refused(url):
    with pytest.raises(InvalidRequest, match="DATAGEN_STORAGE_URL is") as caught:
        open_storage(url)
    assert caught.value.field == "DATAGEN_STORAGE_URL"


def test_link_to_s3_gives_the_object_without_a_key(reached):
    store = ObjectStorage(f"s3://{reached.bucket}/{uuid.uuid4().hex}")
    store.put("exports/a.zip", b"pixels")

    url = store.link("exports/a.zip", 60, "mine.zip")

    assert url is not None
    answer = httpx.get(url)
    assert (answer.status_code, answer.content) == (200, b"pixels")
    assert answer.headers["content-disposition"] == 'attachment; filename="mine.zip"'
    part = httpx.get(url, headers={"Range": "bytes=2-"})
    assert (part.status_code, part.content) == (206, b"xels")


def test_other_stores_have_no_links(tmp_path):
    for store in (FileStorage(tmp_path), ObjectStorage("memory://links")):
        store.put("a", b"1")
        assert store.link("a", 60, "a") is None


@pytest.mark.parametrize("marker", ["", "jobs/"])
def test_folder_that_a_server_keeps_is_no_object(reached, marker):
    root = f"{reached.bucket}/{uuid.uuid4().hex}"
    storage = open_storage(f"s3://{root}")
    assert httpx.put(f"{reached.endpoint}/{root}/{marker}").status_code == 200
    storage.put("jobs/a", b"there")
    assert [found.key for found in storage.list("")] == ["jobs/a"]
    storage.delete("jobs/a")
    assert list(storage.list("")) == []
