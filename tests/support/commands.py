"""The real command for tests, and one stack that is spoken to over HTTP and commands alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from environments import clean_environment
from prometheus_client.parser import text_string_to_metric_families
from running import ended_of, wait_until

DATAGEN = str(Path(sys.executable).with_name("datagen"))
COMMAND_SECONDS = 180.0
STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object that it printed."""
        return json.loads(self.out)


class Datagen:
    """The installed command, with no setting of ours around it: no test reaches a real service."""

    def run(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        seconds: float = COMMAND_SECONDS,
    ) -> Ran:
        """Run a command to its end."""
        ran = subprocess.run(
            [DATAGEN, *arguments],
            env=self._environment(environment),
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert "Traceback" not in ran.stderr, ran.stderr
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def start(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a command, its output in pipes."""
        return subprocess.Popen(
            [DATAGEN, *arguments],
            env=self._environment(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
        return {**clean_environment(), **(extra or {})}


@dataclass(frozen=True)
class Stack:
    """A running stack, and how to speak to it."""

    url: str
    key: str
    home: Path
    http: httpx.Client

    def command(self, *arguments: str) -> Ran:
        """Run a command on the stack's home."""
        return Datagen().run(*arguments, environment={"DATAGEN_HOME": str(self.home)})

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command on the stack's home."""
        return Datagen().start(*arguments, environment={"DATAGEN_HOME": str(self.home)})

    def created(self, path: str, body: Mapping[str, Any]) -> Any:
        """What a request to create has made."""
        answer = self.http.post(path, json=body)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"{path}/{answer.json()['id']}"
        return answer.json()

    def ended(self, path: str) -> Any:
        """The resource at a path once it has ended."""
        return ended_of(self.http, path, COMMAND_SECONDS)

    def metrics(self) -> dict[str, dict[tuple[str, ...], float]]:
        """What Prometheus reads: values of each metric by its labels."""
        answer = self.http.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        return {
            sample.name: {
                tuple(other.labels.values()): other.value
                for other in family.samples
                if other.name == sample.name
            }
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    def settle(self) -> None:
        """Wait for what other tests have left at work, whoever's it is."""
        wait_until(self._is_settled, COMMAND_SECONDS, pause=0.2)

    def _is_settled(self) -> bool:
        found = self.metrics()
        unfinished = (
            found[f"datagen_{kind}"][state,]
            for kind in ("jobs", "exports", "reports")
            for state in ("queued", "running")
        )
        return not any(unfinished) and not any(found["datagen_queue_messages"].values())


@pytest.fixture(scope="session")
def datagen() -> Datagen:
    """The command."""
    return Datagen()


@pytest.fixture(scope="session")
def stack(datagen: Datagen, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all tests that only use it."""
    home = tmp_path_factory.mktemp("stack") / "home"
    environment = {"DATAGEN_HOME": str(home), "DATAGEN_WORKERS": "1"}
    with datagen.start("up", "--port", "0", "--json", environment=environment) as supervisor:
        try:
            assert supervisor.stdout is not None
            url = json.loads(supervisor.stdout.readline())["url"]
            key = (home / "api-key").read_text().strip()
            headers = {"Authorization": f"Bearer {key}"}
            with httpx.Client(base_url=url, headers=headers, timeout=30.0) as http:
                yield Stack(url, key, home, http)
        finally:
            supervisor.send_signal(signal.SIGTERM)
            supervisor.communicate(timeout=STOP_SECONDS)
    assert supervisor.returncode == 0


@pytest.fixture(scope="session")
def job(stack: Stack) -> Any:
    """An ended job with 30 images of 3 and 20 of 8, for tests that only read."""
    made = stack.created("/v1/jobs", {"model": "mnist", "labels": {"3": 30, "8": 20}, "seed": 7})
    ended = stack.ended(f"/v1/jobs/{made['id']}")
    assert ended["state"] == "succeeded", ended
    return ended
