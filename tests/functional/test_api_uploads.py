"""Uploads from outside: what is swept, what is refused early, and what dies without harm."""

from __future__ import annotations

import io
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from environments import clean_environment
from memory import growth_of
from running import wait_until

from benchmarks.api_memory import large_pictures, repeated_value
from datagen.scratch import PREFIX


class Api:
    """`datagen api` on a database and a folder for temporary files of its own."""

    def __init__(self, folder: Path) -> None:
        self.temporary, self.key = folder / "tmp", f"dg_admin_{secrets.token_urlsafe(32)}"
        self.temporary.mkdir()
        self.environment = clean_environment() | {
            "DATAGEN_HOME": str(folder / "home"),
            "DATAGEN_API_KEY": self.key,
            "DATAGEN_READER_MEMORY_BYTES": "64000000",
            "TMPDIR": str(self.temporary),
        }
        self._command("db", "upgrade").communicate()

    def _command(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "datagen.cli", *arguments]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, env=self.environment, stdout=quiet, stderr=quiet)

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        process = self._command("api", "--port", str(self.port))
        try:
            wait_until(self._answers)
            yield process
        finally:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz").is_success
        except httpx.HTTPError:
            return False

    def post(self, path: str, **request: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"} | request.pop("headers", {})
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.post(url, headers=headers, timeout=120, **request)

    def left(self) -> list[str]:
        return [one.name for one in self.temporary.iterdir() if one.name.startswith(PREFIX)]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    return Api(tmp_path_factory.mktemp("api"))


def test_upload_that_a_killed_api_was_receiving_is_swept_at_the_next_start(api: Api) -> None:
    with api.running() as process, socket.create_connection(("127.0.0.1", api.port)) as client:
        head = (
            f"POST /v1/datasets?name=x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n"
            f"Authorization: Bearer {api.key}\r\nContent-Type: application/x-tar\r\n\r\n"
        )
        client.sendall(head.encode() + bytes(2_000_000))
        wait_until(api.left)
        process.kill()
        process.wait()
        assert api.left()
    with api.running():
        wait_until(lambda: not api.left())


def test_file_beyond_the_readers_memory_is_422_and_the_api_goes_on(api: Api) -> None:
    out = io.BytesIO()
    table = pa.table({"image": [b"x"], "label": ["y" * 200_000_000]})
    pq.write_table(table, out, compression="zstd")
    with api.running() as process:
        answer = api.post("/v1/datasets", params={"name": "large"}, content=out.getvalue())
        assert answer.status_code == 422, answer.text
        assert "DATAGEN_READER_MEMORY_BYTES" in answer.json()["detail"]
        source = {"name": "digits", "source": "sample:mnist"}
        assert api.post("/v1/datasets", json=source).status_code == 201
        assert process.poll() is None
        wait_until(lambda: not api.left())


@pytest.mark.parametrize("build", [partial(repeated_value, 200), partial(large_pictures, 24, 1500)])
def test_files_that_unfold_to_far_more_than_they_have_take_little_of_the_apis_memory(
    api: Api, build: Callable[[], bytes]
) -> None:
    body = build()
    with api.running() as process:
        # What every upload loads is loaded then.
        api.post("/v1/datasets", params={"name": "warm", "dry_run": True}, content=b"no dataset")
        with growth_of(process.pid) as growth:
            answer = api.post("/v1/datasets", params={"name": "wide"}, content=body)
        assert answer.status_code == 422, answer.text
        assert growth.bytes < 64_000_000
        assert process.poll() is None


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
@pytest.mark.parametrize("path", ["/v1/datasets?name=x", "/v1/models/import?name=x"])
def test_json_at_the_paths_of_uploads_has_the_limit_of_other_json(
    stack: Any, kind: str, path: str
) -> None:
    body = b'{"name": "' + b"x" * 1_100_000 + b'"}'
    answer = stack.http.post(path, content=body, headers={"Content-Type": kind})
    assert answer.status_code == 413, answer.text
    assert "1,000,000 bytes" in answer.json()["detail"]
