"""Settings and servers by name, by the real command."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("stack")


def test_server_with_a_name_is_talked_to_by_it(stack: Any, datagen: Any, tmp_path: Path) -> None:
    own = {"DATAGEN_HOME": str(tmp_path / "home")}
    kept = datagen.run(
        "config", "set", "team", "--url", stack.url, "--api-key", stack.key, environment=own
    )
    assert kept.code == 0, kept.err
    path = tmp_path / "home" / "profiles.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listed = datagen.run("--profile", "team", "model", "list", "--json", environment=own)
    assert listed.code == 0, listed.err
    assert "mnist" in [model["name"] for model in listed.json["items"]]
    by_variable = datagen.run(
        "job", "list", "--json", environment=own | {"DATAGEN_PROFILE": "team"}
    )
    assert by_variable.code == 0, by_variable.err
    names = datagen.run("config", "list", environment=own)
    assert stack.url in names.out
    assert stack.key not in names.out
    assert datagen.run("config", "remove", "team", environment=own).code == 0
    gone = datagen.run("--profile", "team", "job", "list", environment=own)
    assert gone.code == 2
    assert "no profile 'team' (there are: none yet)" in gone.err
    assert datagen.run("config", "remove", "team", environment=own).code == 1


def test_settings_are_shown_with_where_they_come_from_and_no_secret(
    datagen: Any, tmp_path: Path
) -> None:
    key = "dg_abc_" + "s" * 43
    given = {
        "DATAGEN_HOME": str(tmp_path),
        "DATAGEN_API_KEY": key,
        "DATAGEN_DATABASE_URL": "postgresql+psycopg://me:hunter2@db/x",
        "DATAGEN_WORKERS": "3",
    }
    shown = datagen.run("config", "show", environment=given)
    assert shown.code == 0, shown.err
    assert "hunter2" not in shown.out
    assert key not in shown.out
    told = datagen.run("config", "show", "--json", environment=given).json
    assert told["server"] is None
    assert told["settings"]["workers"] == {"value": 3, "from": "environment"}
    assert told["settings"]["api_key"]["value"] == "dg_abc_***"
    assert told["settings"]["batch_size"] == {"value": 2000, "from": "default"}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("set", "Team", "--url", "http://h"), "The name is 'Team'"),
        (("set", "team", "--url", "ftp://h"), "The server's URL is 'ftp://h'"),
        (("set", "team", "--url", "http://h", "--api-key", "a b"), "The API key has spaces"),
    ],
)
def test_server_that_cannot_be_one_is_refused(
    datagen: Any, tmp_path: Path, arguments: tuple[str, ...], word: str
) -> None:
    ran = datagen.run("config", *arguments, environment={"DATAGEN_HOME": str(tmp_path)})
    assert ran.code == 2
    assert word in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {}}'])
def test_damaged_file_of_servers_is_named(datagen: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "profiles.json").write_text(text)
    ran = datagen.run("--profile", "a", "job", "list", environment={"DATAGEN_HOME": str(tmp_path)})
    assert ran.code == 2
    assert "profiles.json" in ran.err
