from __future__ import annotations

import fsspec
import httpx
import pytest

from datagen.errors import InvalidRequest, NotFound
from datagen.service.remote_sources import fetch


@pytest.fixture
def allowed(settings, tmp_path):
    root = tmp_path / "allowed"
    (root / "inner").mkdir(parents=True)
    (root / "inner" / "x.zip").write_bytes(b"zip")
    (tmp_path / "secret.zip").write_bytes(b"secret")
    (root / "link.zip").symlink_to(tmp_path / "secret.zip")
    roots = f"{root.as_uri()}, memory://bucket/data"
    return settings.model_copy(update={"dataset_roots": roots})


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def test_file_and_folder_under_a_root_are_read_where_they_lie(allowed, tmp_path, target):
    root = tmp_path / "allowed"

    assert fetch(allowed, f"{root.as_uri()}/inner/x.zip", target) == root / "inner" / "x.zip"
    assert fetch(allowed, f"{root.as_uri()}/inner", target) == root / "inner"


def test_folder_with_links_that_lead_out_is_refused(allowed, tmp_path, target):
    root = tmp_path / "allowed"
    (root / "inner" / "own.zip").symlink_to(root / "inner" / "x.zip")
    assert fetch(allowed, f"{root.as_uri()}/inner", target) == root / "inner"
    (root / "inner" / "cat").mkdir()
    (root / "inner" / "cat" / "1.png").symlink_to(tmp_path / "secret.zip")

    with pytest.raises(InvalidRequest, match=r"'cat/1\.png', which leads out"):
        fetch(allowed, f"{root.as_uri()}/inner", target)


def test_object_and_folder_in_a_bucket_are_copied(allowed, target):
    files = fsspec.filesystem("memory")
    files.pipe_file("/bucket/data/a/1.png", b"one")
    files.pipe_file("/bucket/data/x.zip", b"zip")
    try:
        assert fetch(allowed, "memory://bucket/data/x.zip", target).read_bytes() == b"zip"
        (target / "source").unlink()
        folder = fetch(allowed, "memory://bucket/data", target)
        assert (folder / "a" / "1.png").read_bytes() == b"one"
        small = allowed.model_copy(update={"max_upload_bytes": 2})
        with pytest.raises(InvalidRequest, match="DATAGEN_MAX_UPLOAD_BYTES"):
            fetch(small, "memory://bucket/data/x.zip", target / "source")
    finally:
        files.rm("/bucket", recursive=True)


def test_empty_keys_that_stand_for_folders_are_no_files(settings, reached, target):
    files = fsspec.filesystem("s3")
    keys = ("pets/", "pets/cat/", "pets/dog/", "pets/cat/@eaDir/x.png")
    for key in keys:
        httpx.put(f"{reached.endpoint}/{reached.bucket}/{key}", content=b"")
    for key in ("pets/cat/1.png", "pets/dog/2.png"):
        files.pipe_file(f"{reached.bucket}/{key}", b"picture")
    root = f"s3://{reached.bucket}"

    copied = fetch(settings.model_copy(update={"dataset_roots": root}), f"{root}/pets", target)

    found = sorted(path.relative_to(copied).as_posix() for path in copied.rglob("*"))
    assert found == ["cat", "cat/1.png", "dog", "dog/2.png"]


def test_links_behind_linked_folders_that_lead_out_are_refused(allowed, tmp_path, target):
    root = tmp_path / "allowed"
    (root / "behind").mkdir()
    (root / "behind" / "1.png").symlink_to(tmp_path / "secret.zip")
    (root / "inner" / "cat").symlink_to(root / "behind")

    with pytest.raises(InvalidRequest, match=r"'cat/1\.png', which leads out"):
        fetch(allowed, f"{root.as_uri()}/inner", target)


@pytest.mark.parametrize(
    "url",
    [
        "{base}/secret.zip",
        "{base}/allowed/../secret.zip",
        "{base}/allowed/%2e%2e/secret.zip",
        "{base}/allowed/%252e%252e/secret.zip",
        "{base}/allowed/link.zip",
        "{base}/allowedly/x.zip",
        "{base}/allowed/x%00.zip",
        "{base}/allowed/*.zip",
        "file://otherhost/x.zip",
        "/etc/passwd",
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:8000/x.zip",
        "s3://bucket/data/x.zip",
        "memory://bucket/database/x.zip",
        "memory://bucket/data/../x.zip",
        "memory://user:word@bucket/data/x.zip",
        "memory://bucket/data/x.zip?endpoint=http://evil",
        "://",
        "[",
    ],
)
def test_everything_else_is_refused(allowed, tmp_path, target, url):
    with pytest.raises(InvalidRequest) as raised:
        fetch(allowed, url.format(base=tmp_path.as_uri()), target)
    assert raised.value.field == "source"


def test_without_roots_nothing_is_read_and_the_setting_is_named(settings, target):
    with pytest.raises(InvalidRequest, match="DATAGEN_DATASET_ROOTS"):
        fetch(settings, "file:///etc/passwd", target)


@pytest.mark.parametrize("url", ["{base}/allowed/gone.zip", "memory://bucket/data/gone"])
def test_what_is_not_there_is_not_found(allowed, tmp_path, target, url):
    with pytest.raises(NotFound, match="nothing at"):
        fetch(allowed, url.format(base=tmp_path.as_uri()), target)
