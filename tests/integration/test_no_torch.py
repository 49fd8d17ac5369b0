"""No command and no route loads torch: they start in a blink, and the API needs little memory."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from environments import clean_environment

COMMANDS = """
--version
--help
demo --help
up --help
generate --help
train --help
doctor
api --help
worker --help
beat --help
job --help
job list
job show 00000000-0000-7000-8000-000000000000
job watch 00000000-0000-7000-8000-000000000000
job cancel 00000000-0000-7000-8000-000000000000
generate --per-label 1 --detach
dataset add d .
dataset list
dataset show nothing
dataset remove nothing
dataset add s sample:mnist
dataset show s --picture balance.png
dataset add t torchvision:Nothing
export create 00000000-0000-7000-8000-000000000000
export list
export show 00000000-0000-7000-8000-000000000000
export download 00000000-0000-7000-8000-000000000000 --out x
model list
model show mnist
model cancel nothing
model compare mnist mnist
model export mnist --out m.zip
model import copy m.zip
model remove copy
model report mnist --out r --dataset nothing
db upgrade
"""

RUN_COMMANDS = """
import sys, threading
import uvicorn
from datagen.api.app import create_app
from datagen.api.serving import bind
from datagen.settings import load_settings

sys.argv[0] = "datagen"
from datagen.db.migrate import upgrade
settings = load_settings()
upgrade(settings.database)
listener = bind("127.0.0.1", int(settings.url.rpartition(":")[2]))
server = uvicorn.Server(uvicorn.Config(create_app(settings), log_config=None, access_log=False))
thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
thread.start()
from datagen.cli import main
for line in sys.stdin.read().strip().splitlines():
    sys.argv[1:] = line.split()
    try:
        main()
    except SystemExit:
        pass
    assert "torch" not in sys.modules, line
server.should_exit = True
thread.join()
"""

CALL_ROUTES = """
import sys
from starlette.testclient import TestClient
from datagen.api.app import create_app
from datagen.db.migrate import upgrade
from datagen.queue import MemoryQueue
from datagen.settings import load_settings

settings = load_settings()
upgrade(settings.database)
app = create_app(settings, queue=MemoryQueue())
nobody = "00000000-0000-7000-8000-000000000000"
headers = {"Authorization": "Bearer " + settings.api_key.get_secret_value()}
bodies = {
    "/v1/jobs": {"json": {"model": "mnist", "all": 1}},
    "/v1/exports": {"json": {"job": nobody, "format": "parquet"}},
    "/v1/models": {"json": {"name": "m", "dataset": "d"}},
    "/v1/datasets": {"json": {"name": "d", "source": "sample:mnist"}},
    "/v1/models/import": {"params": {"name": "m"}, "content": b"no zip"},
    "/v1/models/compare": {"params": {"model": ["mnist", "mnist"]}},
}
with TestClient(app, base_url="http://127.0.0.1", headers=headers) as client:
    paths = client.get("/openapi.json").json()["paths"]
    assert len(paths) >= 20
    for template, methods in paths.items():
        path = template.replace("{index}", "0").replace("{reference}", "mnist")
        path = path.replace("{job_id}", nobody).replace("{export_id}", nobody)
        path = path.replace("{name}", "loss.png").replace("{kind}", "png")
        for method in methods:
            body = bodies.get(path, {}) if method == "post" or "compare" in path else {}
            answer = client.request(method, path, **body)
            assert answer.status_code != 500, (method, path, answer.text)
            assert "torch" not in sys.modules, (method, path)
"""

IMPORT_ROOMS = """
import importlib, pkgutil, sys
import datagen

for room in ("api", "cli", "client", "datasets", "db", "embedded", "export", "service"):
    package = importlib.import_module(f"datagen.{room}")
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
for module in ("images", "plots", "shards", "storage", "queue", "schemas", "settings", "errors"):
    importlib.import_module(f"datagen.{module}")
assert "torch" not in sys.modules, sorted(name for name in sys.modules if "torch" in name)[:5]
"""


def run(program: str, home: Path, *, given: str = "", **settings: str) -> None:
    home.mkdir(exist_ok=True)
    ran = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=clean_environment() | {"DATAGEN_HOME": str(home)} | settings,
        cwd=home,
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]


@pytest.fixture
def key() -> str:
    return "dg_abcdefghijkl_" + "k" * 43


def test_rooms_without_torch_import_none(tmp_path: Path) -> None:
    run(IMPORT_ROOMS, tmp_path / "home")


def test_no_route_loads_torch(tmp_path: Path, key: str) -> None:
    run(CALL_ROUTES, tmp_path / "home", DATAGEN_API_KEY=key)


def test_no_command_loads_torch(tmp_path: Path, key: str, unused_port: int) -> None:
    run(
        RUN_COMMANDS,
        tmp_path / "home",
        given=COMMANDS,
        DATAGEN_API_KEY=key,
        DATAGEN_URL=f"http://127.0.0.1:{unused_port}",
    )


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
