from __future__ import annotations

import io

import pytest
from fastapi import FastAPI, Request, Response
from starlette.testclient import TestClient

from datagen.api.downloads import answered, stored

CONTENT = bytes(range(256)) * 10
DIGEST = "ab" * 32
TAG = f'"{DIGEST}"'


class Archive:
    def __init__(self) -> None:
        self.readers: list[io.BytesIO] = []
        self.client = TestClient(self._app())

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/archive")
        def archive(request: Request) -> Response:
            self.readers.append(io.BytesIO(CONTENT))
            content = stored(self.readers[-1], size=len(CONTENT), digest=DIGEST, filename="a.zip")
            return answered(content, request.headers)

        return app

    def get(self, **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.get("/archive", headers=named)  # type: ignore[return-value]


@pytest.fixture
def archive() -> Archive:
    return Archive()


def test_whole_archive_comes_as_an_attachment(archive: Archive) -> None:
    answer = archive.get()
    assert answer.status_code == 200
    assert answer.content == CONTENT
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["content-disposition"] == 'attachment; filename="a.zip"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"] == TAG
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=2000-", 2000, 2559),
        ("bytes=2000-99999", 2000, 2559),
        ("bytes=-5", 2555, 2559),
        ("bytes=-99999", 0, 2559),
    ],
)
def test_range_comes_alone(archive: Archive, wanted: str, first: int, last: int) -> None:
    answer = archive.get(Range=wanted)
    assert answer.status_code == 206
    assert answer.content == CONTENT[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/2560"
    assert answer.headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize("wanted", ["bytes=2560-", "bytes=9999-10000", "bytes=-0"])
def test_range_beyond_the_end_is_416(archive: Archive, wanted: str) -> None:
    answer = archive.get(Range=wanted)
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */2560"


@pytest.mark.parametrize("wanted", ["bytes=9-2", "bytes=0-1,4-5", "lines=1-2", "bytes=-"])
def test_range_that_cannot_be_served_counts_as_none(archive: Archive, wanted: str) -> None:
    answer = archive.get(Range=wanted)
    assert (answer.status_code, len(answer.content)) == (200, len(CONTENT))


def test_if_range_of_another_archive_brings_the_whole(archive: Archive) -> None:
    assert archive.get(Range="bytes=5-", If_Range='"other"').status_code == 200
    assert archive.get(Range="bytes=5-", If_Range=TAG).status_code == 206


def test_archive_that_is_known_is_304(archive: Archive) -> None:
    answer = archive.get(If_None_Match=f'"x", {TAG}')
    assert (answer.status_code, answer.content) == (304, b"")


def test_reader_is_closed_whatever_is_answered(archive: Archive) -> None:
    archive.get()
    archive.get(Range="bytes=9999-")
    archive.get(If_None_Match=TAG)
    assert [reader.closed for reader in archive.readers] == [True, True, True]
