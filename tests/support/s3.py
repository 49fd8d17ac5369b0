"""A real S3 server on loopback, for as long as a test needs it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
from running import wait_until

START_SECONDS = 60.0


@dataclass(frozen=True)
class S3:
    """A server, its one bucket, and what reaches it.

    Attributes:
        endpoint: its URL.
        bucket: a bucket that is there.
    """

    endpoint: str
    bucket: str = "datagen"

    @property
    def environment(self) -> dict[str, str]:
        """What S3's clients read of the environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextmanager
def s3_server() -> Iterator[S3]:
    """A server in a process of its own, ended with the context."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            found = S3(f"http://127.0.0.1:{port}")
            wait_until(lambda: _bucket_made(found), START_SECONDS)
            yield found
        finally:
            process.terminate()


def _bucket_made(server: S3) -> bool:
    try:
        return httpx.put(f"{server.endpoint}/{server.bucket}", timeout=5.0).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """One server for all tests of a process."""
    with s3_server() as server:
        yield server


@pytest.fixture
def reached(s3: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The server, with what its clients read of the environment."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3
