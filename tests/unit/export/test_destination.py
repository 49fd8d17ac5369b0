from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest

from datagen.errors import InvalidRequest, StorageFailure
from datagen.export import destination
from datagen.export.destination import UNFINISHED, DestinationSink, remove_export
from datagen.export.manifest import problems
from datagen.export.writing import write_export


@dataclass
class Place:
    """A destination, and what lies in it."""

    url: str

    def files(self, path: str = "") -> dict[str, bytes]:
        files, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        whole = f"{root}/{path}".rstrip("/")
        if not files.exists(whole):
            return {}
        return {
            name.removeprefix(f"{whole}/"): files.cat_file(name)
            for name in files.find(whole)
            if name != whole
        }


@pytest.fixture(params=["file", "s3", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "file":
        yield Place((tmp_path / "sets").as_uri())
    elif request.param == "s3":
        server = request.getfixturevalue("reached")
        yield Place(f"s3://{server.bucket}/{uuid.uuid4().hex}")
    else:
        yield Place(f"memory://{uuid.uuid4().hex}")


def export(place: Place, drawn: Any, path: str = "pets/today", **options: Any) -> None:
    with DestinationSink(place.url, path, "token", **options) as sink:
        write_export("imagefolder", drawn.splits(), drawn.info, sink)


def test_files_lie_where_they_were_wanted(place: Place, drawn: Any, tmp_path: Path) -> None:
    export(place, drawn)
    found = place.files("pets/today")
    for name, data in found.items():
        target = tmp_path / "copy" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    assert problems(tmp_path / "copy") == []
    assert found["train/dog/0000000004.png"] == drawn.files[4]
    assert set(place.files()) == {f"pets/today/{name}" for name in found}


def test_many_files_are_written_many_at_a_time(
    place: Place, drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destination, "WAITING_FILES", 5)
    export(place, drawn)
    assert len(place.files("pets/today")) == 18 + 7


def test_former_export_is_replaced_only_when_asked(place: Place, draw: Any) -> None:
    export(place, draw({"cat": 9, "dog": 1}))
    before = place.files()
    with pytest.raises(InvalidRequest, match="There is an export at 'pets/today'"):
        export(place, draw({"cat": 2}))
    assert place.files() == before

    export(place, draw({"cat": 2}), overwrite=True)
    after = place.files("pets/today")
    assert sum(name.startswith("train/cat/") for name in after) == 2
    assert not any(name.startswith("train/dog/") for name in after)
    assert set(place.files()) == {f"pets/today/{name}" for name in after}


def test_what_is_no_export_is_never_replaced(place: Place, drawn: Any) -> None:
    files, root = fsspec.core.url_to_fs(place.url)
    files.makedirs(f"{root}/pets/today", exist_ok=True)
    files.pipe_file(f"{root}/pets/today/mine.txt", b"mine")
    for overwrite in (False, True):
        with pytest.raises(InvalidRequest, match="is no export"):
            export(place, drawn, overwrite=overwrite)
    assert place.files() == {"pets/today/mine.txt": b"mine"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_broke_off_looks_like_no_export(place: Place, drawn: Any, overwrite: bool) -> None:
    if overwrite:
        export(place, drawn)

    def broken() -> Iterator[Any]:
        yield from drawn.splits()
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        DestinationSink(place.url, "pets/today", "again", overwrite=overwrite) as sink,
    ):
        write_export("imagefolder", broken(), drawn.info, sink)
    if place.url.startswith("file:"):
        # A folder keeps the former one until the new one is whole.
        assert ("manifest.json" in place.files("pets/today")) is overwrite
        assert not any("again" in name for name in place.files())
    else:
        assert "manifest.json" not in place.files("pets/today")
    export(place, drawn, overwrite=overwrite and place.url.startswith("file:"))
    assert len(place.files("pets/today")) == len(drawn.files) + 7


def test_unreachable_destination_is_named_without_its_url(
    drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "secret-key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageFailure, match="cannot be written at 'pets'") as told:
        export(Place("s3://hidden-bucket/x"), drawn, "pets")
    assert "secret" not in told.value.detail


def test_full_disk_is_an_error_and_leaves_nothing(
    drawn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path.as_uri())

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(StorageFailure, match="No space left on device"):
        export(place, drawn)
    assert place.files() == {}


def manifest_of(place: Place, path: str) -> str:
    return hashlib.sha256(place.files(path)["manifest.json"]).hexdigest()


def test_export_is_removed_and_what_lies_beside_it_stays(place: Place, drawn: Any) -> None:
    export(place, drawn)
    export(place, drawn, "pets/yesterday")
    before = place.files("pets/yesterday")
    digest = manifest_of(place, "pets/today")
    assert remove_export(place.url, "pets/today", digest, "token")
    assert place.files() == {f"pets/yesterday/{name}": data for name, data in before.items()}
    assert not remove_export(place.url, "pets/today", digest, "token")


def test_what_is_another_export_by_now_is_not_removed(place: Place, draw: Any) -> None:
    export(place, draw({"cat": 9}))
    digest = manifest_of(place, "pets/today")
    export(place, draw({"cat": 2}), overwrite=True)
    before = place.files()
    assert not remove_export(place.url, "pets/today", digest, "token")
    assert place.files() == before


def test_removal_that_was_cut_off_is_taken_up_again(place: Place, drawn: Any) -> None:
    export(place, drawn)
    digest = manifest_of(place, "pets/today")
    files, root = fsspec.core.url_to_fs(place.url, use_listings_cache=False)
    # As after the first of its steps.
    if place.url.startswith("file:"):
        files.mv(f"{root}/pets/today", f"{root}/pets/today.old-token", recursive=True)
    else:
        files.pipe_file(f"{root}/pets/today/{UNFINISHED}", b"token")
        files.rm_file(f"{root}/pets/today/manifest.json")
    assert not remove_export(place.url, "pets/today", digest, "another")
    assert remove_export(place.url, "pets/today", digest, "token")
    assert place.files() == {}
