from __future__ import annotations

import json
from pathlib import Path

import pytest

from datagen.client.address import find_address, is_loopback
from datagen.errors import InvalidRequest, ServerUnreachable
from datagen.settings import Settings

HERE = "http://127.0.0.1:4321"
ELSEWHERE = "https://datagen.example/base/"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "server.json").write_text(json.dumps({"url": HERE, "pid": 1}))
    (tmp_path / "api-key").write_text("dg_local_key\n")
    return tmp_path


def settings(home: Path, **values: str) -> Settings:
    return Settings(home=home, **{"url": None, "api_key": None, **values})  # type: ignore[arg-type]


def test_running_stack_is_found_with_its_key(home: Path) -> None:
    address = find_address(settings(home), None, None)
    assert (address.url, address.api_key) == (HERE, "dg_local_key")
    assert address.is_local


def test_settings_win_over_the_home_and_arguments_over_both(home: Path) -> None:
    named = settings(home, url=ELSEWHERE, api_key="dg_set_key")
    assert find_address(named, None, None).url == ELSEWHERE.rstrip("/")
    assert find_address(named, None, None).api_key == "dg_set_key"
    given = find_address(named, "http://h:1", "dg_given_key")
    assert (given.url, given.api_key) == ("http://h:1", "dg_given_key")


def test_local_key_is_not_sent_to_a_server_elsewhere(home: Path) -> None:
    assert find_address(settings(home, url=ELSEWHERE), None, None).api_key is None
    assert find_address(settings(home), HERE + "/", None).api_key == "dg_local_key"


@pytest.mark.parametrize("written", [None, "", "[]", '{"url": 3}', '{"pid": 1}', "\xff"])
def test_without_a_server_the_error_names_the_command(tmp_path: Path, written: str | None) -> None:
    if written is not None:
        (tmp_path / "server.json").write_text(written)
    with pytest.raises(ServerUnreachable, match="datagen up"):
        find_address(settings(tmp_path), None, None)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://h", "http://", "http://h:x", "http://["])
def test_url_of_another_kind_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidRequest, match="give one such as"):
        find_address(settings(tmp_path), url, None)


@pytest.mark.parametrize("key", ["dg_a b", "dg_ä", "dg_a\r\nX-Evil: 1"])
def test_key_with_odd_characters_is_refused_and_not_quoted(home: Path, key: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        find_address(settings(home), None, key)
    assert key not in caught.value.detail


def test_loopback_is_this_machine_alone() -> None:
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.9.9.9", "::1"]))
    assert not any(map(is_loopback, ["", "example.org", "10.0.0.1", "localhost.evil"]))
