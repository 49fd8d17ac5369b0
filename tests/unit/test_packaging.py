"""What ships beside the code says the same as the code."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from datagen.settings import Settings

ROOT = Path(__file__).parents[2]
DATAGEN = Path(sys.executable).with_name("datagen")


def compose() -> dict:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def own_services() -> dict[str, list[str]]:
    services = compose()["services"]
    return {name: one["command"] for name, one in services.items() if one.get("build") == "."}


def help_of(*words: str) -> str:
    done = subprocess.run(
        [DATAGEN, *words, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


@pytest.mark.parametrize("service", sorted(own_services()))
def test_every_command_of_the_compose_file_exists(service):
    command = own_services()[service]
    words = [word for word in command if not word.startswith("-")]
    options = [word for word in command if word.startswith("--")]
    verbs = words[:2] if words[0] == "db" else words[:1]

    shown = help_of(*verbs)

    assert all(option in shown for option in options)


def test_compose_file_runs_every_part_of_the_service():
    commands = [" ".join(command) for command in own_services().values()]

    for part in (
        "api",
        "worker --queues preview,quick,interactive,bulk,train",
        "worker --queues preview,quick --workers 1",
        "worker --queues deliver",
        "worker --queues control,export",
        "beat",
    ):
        assert any(command.startswith(part) for command in commands), part


def test_every_image_of_the_compose_file_is_pinned_and_all_that_is_waited_for_is_there():
    services = compose()["services"]
    others = [one["image"] for one in services.values() if "build" not in one]

    assert others
    for image in others:
        assert re.fullmatch(r"[\w./-]+:\d[\w.-]*(@sha256:[0-9a-f]{64})?", image), image
    for one in services.values():
        for name, how in one.get("depends_on", {}).items():
            awaited = services[name]
            assert how["condition"] != "service_healthy" or awaited["healthcheck"]["test"], name
            done = how["condition"] == "service_completed_successfully"
            assert not done or awaited["restart"] == "no", name


def test_compose_file_needs_no_image_that_is_gone():
    assert not {one.get("image", "").split("/")[0] for one in compose()["services"].values()} & {
        "minio"
    }


def test_bucket_of_the_compose_file_is_created_before_anything_needs_it():
    services = compose()["services"]
    migrate = services["migrate"]
    command = "db upgrade"

    assert " ".join(migrate["command"]) == command
    assert "--bucket" in help_of(*command.split())
    assert {"s3", "postgres"} <= set(migrate["depends_on"])
    for name, one in services.items():
        if one.get("build") == "." and name != "migrate":
            assert one["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_compose_file_sets_only_settings_that_exist():
    known = {f"DATAGEN_{name.upper()}" for name in Settings.model_fields}
    named = {
        name
        for one in compose()["services"].values()
        for name in one.get("environment", {})
        if name.startswith("DATAGEN_")
    }

    assert named
    assert named <= known


def test_secrets_of_the_compose_file_come_from_the_environment_and_are_named_in_the_example():
    text = (ROOT / "compose.yaml").read_text()
    wanted = set(re.findall(r"\$\{(\w+):\?", text))
    example = (ROOT / ".env.example").read_text()

    assert wanted == set(re.findall(r"^(\w+)=$", example, re.MULTILINE))


def test_image_runs_as_an_unprivileged_user_and_checks_its_health():
    lines = (ROOT / "Dockerfile").read_text()

    assert lines.count("\nFROM ") + lines.startswith("FROM ") == 2
    assert re.search(r"^USER (?!root)\w+", lines, re.MULTILINE)
    assert "/healthz" in lines
    assert "ARG TORCH_INDEX_URL" in lines
    entry = re.search(r"^CMD (\[.*\])$", lines, re.MULTILINE)
    assert shlex.split(entry[1].strip("[]").replace(",", " "))[0] == "api"


def test_readme_lists_every_setting_with_its_default():
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| `(DATAGEN_\w+)` \| (.+?) \|", text, re.MULTILINE)
    shown = {name.removeprefix("DATAGEN_").lower(): default for name, default in rows}

    assert set(shown) == set(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert float(shown[name].replace(",", "")) == field.default, name


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> dict[str, str]:
    """What pyproject.toml depends on, by its normal name."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return {normal(re.match(r"[\w.-]+", one)[0]): one for one in told}


def imported() -> set[str]:
    """The top-level modules of others that our code imports, at any place in it."""
    found: set[str] = set()
    for room in ("datagen", "workers", "migrations"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {one.name.partition(".")[0] for one in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"datagen", "workers", "migrations"}


def test_every_module_that_is_imported_comes_with_a_declared_dependency():
    owners = packages_distributions()
    names = declared()
    undeclared = {
        module: owners.get(module)
        for module in imported()
        if not {normal(one) for one in owners.get(module, [])} & set(names)
    }

    assert undeclared == {}


def test_celery_brings_what_its_redis_transport_imports():
    # Beside redis, within bounds, that is `packaging`; celery alone needs neither.
    assert declared()["celery"].startswith("celery[redis]")
    transport = [one for one in requires("kombu") if 'extra == "redis"' in one]
    missing = [one for one in map(Requirement, transport) if version(one.name) not in one.specifier]
    assert missing == []


def test_constraints_hold_names_and_versions_only():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line


def test_shipped_weights_and_sample_are_small_enough():
    bundled = ROOT / "datagen" / "bundled"
    weights = sum(path.stat().st_size for path in bundled.glob("*.safetensors"))

    assert 0 < weights < 8_000_000
    assert 0 < (bundled / "sample-mnist.parquet").stat().st_size < 3_000_000
