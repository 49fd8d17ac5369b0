"""What a job's page shows for curl, Python and the command line, run as it is shown."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import uvicorn
from commands import Datagen
from running import wait_until
from sqlalchemy import select

from datagen.api.app import create_app
from datagen.cli.jobs import parse_labels
from datagen.client import Client
from datagen.db.migrate import upgrade
from datagen.db.session import open_engine, reading, writing
from datagen.db.tables import Job, JobLabel, Model, Owner, new_id
from datagen.errors import InvalidRequest
from datagen.queue import MemoryQueue
from datagen.schemas import Gate, JobCreate
from datagen.service import keys
from datagen.settings import Settings

pytestmark = pytest.mark.timeout(300)

# Everything that a shell, a comma-separated list or a Python text reads as something else.
LABELS = [
    "3", "a, b", " ends ", "it's", '"quoted"', "$HOME `id`", "a=b", "-dash", "{x", "new\nline",
    "back\\slash", "ümlaut 猫", "!history", "1",
]  # fmt: skip
PLAIN = {"3": 5, "1": 2}
OTHER = {
    "min_score": 0.123456789, "max_attempts": 7, "reject_copies": False,
    "reject_duplicates": False, "on_shortfall": "keep",
}  # fmt: skip
NOTED = {"ticket": 17, "who": {"is": ["it's", None, True, 1.5]}, "": "empty"}
JOBS: dict[str, dict[str, Any]] = {
    "every label": {"labels": {label: at + 1 for at, label in enumerate(LABELS)}, "gate": None},
    "by index": {"labels": {"1": 2, "2": 3, "0": 1}, "gate": {}},
    "gate": {"labels": PLAIN, "gate": OTHER, "seed": 2**63 - 1, "temperature": 0.1234567890123},
    "gate of defaults but one": {"labels": PLAIN, "gate": {"reject_duplicates": False}},
    "all else": {
        "labels": {"-dash": 1}, "gate": None, "sampler": "prior", "truncation": 1.2345678901,
        "exports": ["npz", "parquet"], "priority": "bulk", "retention_days": 9, "metadata": NOTED,
    },
    "simple notes": {
        "all": 2, "gate": None, "metadata": {"a b": "$x 'y'", "-z": "{"}, "exports": ["npz"],
    },
    "temperature 0": {"all": 1, "temperature": 0, "gate": {"reject_duplicates": False}},
    "left to the model": {"labels": PLAIN},
    "no labels": {"model": "plain", "count": 12, "gate": OTHER},
}  # fmt: skip
EXTENDED: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "other labels before": (
        {"labels": {"it's": 3}, "gate": OTHER},
        [{"labels": {"a, b": 4, "3": 1}}, {"labels": {"3": 2}}],
    ),
    "no labels": ({"model": "plain", "count": 3, "gate": None}, [{"count": 4}]),
}


@dataclass
class World:
    """A server without workers, its database, and somebody who asks it."""

    url: str
    key: str
    home: Path
    engine: Any
    browser: httpx.Client

    def snippets_of(self, job_id: UUID) -> dict[str, str]:
        """What the job's page shows, by its heading."""
        answer = self.browser.get(f"/jobs/{job_id}", headers={"Accept": "text/html"})
        assert answer.status_code == 200, answer.text
        found = re.findall(r"<h3>([^<]+)</h3>.*?<code>(.*?)</code>", answer.text, re.DOTALL)
        return {name: html.unescape(text) for name, text in found}

    def jobs(self) -> list[UUID]:
        with reading(self.engine) as session:
            return list(session.scalars(select(Job.id).order_by(Job.id)))

    def request(self, job_id: UUID) -> Any:
        """All that makes a job what it is."""
        with reading(self.engine) as session:
            job = session.get_one(Job, job_id)
            parts = session.scalars(
                select(JobLabel).where(JobLabel.job_id == job_id).order_by(JobLabel.position)
            )
            return (
                job.model_id, job.seed, job.sampler, job.temperature, job.truncation, job.gate,
                job.follow_exports, job.priority, job.noted or {}, job.retention_days,
                job.webhook_id, [(part.label, part.start, part.requested) for part in parts],
            )  # fmt: skip


def model_row(owner_id: UUID, name: str, family: str, version: int) -> Model:
    moment = datetime.now(UTC)
    return Model(
        id=new_id(), owner_id=owner_id, name=name, version=version, state="succeeded",
        visibility="private", options={"family": family}, class_names=LABELS,
        image_shape=[1, 4, 4], metrics={"recommended": {"samplers": ["prior"]}}, progress={},
        digest="d" * 64, checkpoint_key="models/d.safetensors", judge_digest="e" * 64,
        judge_key="models/e.safetensors", index_key="models/i", index_digest="f" * 64,
        created_at=moment, available_at=moment, ended_at=moment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("snippets") / "home"
    home.mkdir()
    settings = Settings(home=home)
    upgrade(settings.database)
    engine = open_engine(settings.database)
    with writing(engine) as session:
        key = keys.create_key(session, "me", ["admin"])
        owner_id = session.scalars(select(Owner.id).where(Owner.name == "me")).one()
        session.add_all(
            [
                model_row(owner_id, "odd", "cvae", 1),
                model_row(owner_id, "odd", "cvae", 2),
                model_row(owner_id, "plain", "vae", 1),
            ]
        )
    app = create_app(settings, queue=MemoryQueue())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    with httpx.Client(base_url=url, timeout=30.0) as browser:
        ours = {"Sec-Fetch-Site": "same-origin"}
        assert browser.post("/sign-in", data={"key": key}, headers=ours).status_code == 303
        yield World(url, key, home, engine, browser)
    server.should_exit = True
    thread.join(30)
    engine.dispose()


@pytest.fixture
def type_all(world: World, tmp_path: Path) -> Callable[[UUID], list[Any]]:
    """Types all that a job's page shows; gives what the jobs are that came of it.

    Jobs that are waited for are cancelled in the end, since nobody makes their images.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {"PATH": path, "HOME": str(tmp_path), "DATAGEN_HOME": str(tmp_path / "home")}
    environment |= {"DATAGEN_URL": world.url, "DATAGEN_API_KEY": world.key}

    def typed(job_id: UUID) -> list[Any]:
        known, wanted = set(world.jobs()), world.request(job_id)
        with ExitStack() as stack:
            processes = []
            for name, text in world.snippets_of(job_id).items():
                words = [sys.executable, "-c"] if name == "Python" else ["bash", "-euc"]
                process = subprocess.Popen(
                    [*words, text], env=environment, cwd=tmp_path, text=True,
                    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                )  # fmt: skip
                processes.append(stack.enter_context(process))

            def new() -> set[UUID]:
                return set(world.jobs()) - known

            def settled() -> bool:
                ended = all(process.poll() is not None for process in processes)
                return ended or [world.request(one) for one in new()] == [wanted] * 3

            try:
                wait_until(settled)
            finally:
                with Client(world.url, world.key) as client:
                    for one in new():
                        client.jobs.cancel(one)
                said = [process.communicate(timeout=60)[1] for process in processes]
            assert len(new()) == 3, said
            return [world.request(one) for one in new()]

    return typed


def posted(world: World, path: str, body: dict[str, Any]) -> UUID:
    headers = {"Authorization": f"Bearer {world.key}"}
    answer = httpx.post(f"{world.url}{path}", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return UUID(answer.json()["id"])


@pytest.mark.parametrize("which", JOBS)
def test_what_is_shown_makes_the_same_job(
    world: World, type_all: Callable[[UUID], list[Any]], which: str
) -> None:
    job = posted(world, "/v1/jobs", {"model": "odd@1"} | JOBS[which])
    assert type_all(job) == [world.request(job)] * 3


@pytest.mark.parametrize("which", EXTENDED)
def test_what_is_shown_of_an_extended_job_makes_the_same_images(
    world: World, type_all: Callable[[UUID], list[Any]], which: str
) -> None:
    first, more = EXTENDED[which]
    job = posted(world, "/v1/jobs", {"model": "odd"} | first)
    for one in more:
        assert posted(world, f"/v1/jobs/{job}/extend", one) == job
    assert type_all(job) == [world.request(job)] * 3


def test_model_that_another_one_hides_is_named_by_its_id(world: World) -> None:
    with writing(world.engine) as session:
        keys.create_key(session, "them", ["admin"])
        owner_id = session.scalars(select(Owner.id).where(Owner.name == "them")).one()
        hidden = model_row(owner_id, "odd", "cvae", 1)
        hidden.visibility = "public"
        session.add(hidden)
    with Client(world.url, world.key) as client:
        job = client.jobs.create(str(hidden.id), {"3": 1}, gate=None)
        client.jobs.cancel(job.id)
    assert all(str(hidden.id) in text for text in world.snippets_of(job.id).values())


def test_no_field_of_a_request_is_left_out_of_the_command_line() -> None:
    from datagen.api.pages.snippets import GATE_OPTIONS, OPTIONS  # noqa: PLC0415

    others = {"labels", "balance", "exports", "metadata", "gate"}
    assert set(OPTIONS) | others == set(JobCreate.model_fields)
    assert set(GATE_OPTIONS) == set(Gate.model_fields)


def test_labels_are_read_from_json_where_a_list_cannot_say_them() -> None:
    assert parse_labels('{"a, b": 3, " c ": 2}') == {"a, b": 3, " c ": 2}
    assert parse_labels('{"a=3') == {'{"a': 3}


@pytest.mark.parametrize(
    "text", ['{"a": 1.5}', '{"a": true}', '{"a": -1}', '{"a": 1, "a": 2}', "{}"]
)
def test_json_that_counts_no_images_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--labels"):
        parse_labels(text)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--metadata", '{"a": NaN}'], "--metadata"),
        (["--format", "npz", "--format", "parquet", "--out", "there"], "--format once"),
    ],
)
def test_what_cannot_be_is_refused_before_a_server_is_asked(
    datagen: Datagen, tmp_path: Path, options: list[str], words: str
) -> None:
    home = {"DATAGEN_HOME": str(tmp_path / "home")}
    ran = datagen.run("generate", "--per-label", "1", *options, environment=home, cwd=tmp_path)
    assert (ran.code, words in ran.err) == (2, True), ran.err
