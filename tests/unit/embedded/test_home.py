from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from datagen.embedded import home as homes
from datagen.embedded.home import Home, RunningStack, Workers, running_stack
from datagen.errors import HomeUnusable


def test_home_is_for_its_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.release()
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700


def test_second_stack_is_refused_with_the_place_of_the_first_one(tmp_path: Path) -> None:
    first = Home(tmp_path)
    first.announce("http://127.0.0.1:4000", Workers.ALL)
    with pytest.raises(HomeUnusable, match=r"in use.*127\.0\.0\.1:4000"):
        Home(tmp_path)
    first.release()
    Home(tmp_path).release()


def test_stack_of_a_command_is_waited_for(tmp_path: Path) -> None:
    first = Home(tmp_path)
    first.announce("http://127.0.0.1:4000", Workers.NONE)
    threading.Timer(0.3, first.release).start()
    Home(tmp_path).release()


def test_stack_of_a_command_that_goes_on_for_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "LOCK_SECONDS", 0.1)
    first = Home(tmp_path)
    first.announce("http://127.0.0.1:4000", Workers.LIGHT)
    with pytest.raises(HomeUnusable, match=str(os.getpid())):
        Home(tmp_path)
    first.release()


def test_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(HomeUnusable, match="DATAGEN_HOME"):
        Home(tmp_path / "home")


def test_running_stack_is_found(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.announce("http://127.0.0.1:4000", Workers.ALL)
    assert running_stack(tmp_path) == RunningStack(
        "http://127.0.0.1:4000", os.getpid(), Workers.ALL
    )
    home.withdraw()
    assert running_stack(tmp_path) is None
    home.release()


def test_address_that_a_killed_stack_left_is_not_believed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.announce("http://127.0.0.1:4000", Workers.ALL)
    home.release()
    assert running_stack(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"url": "x", "pid": "y"}', '{"url": "x", "pid": 1, "workers": "?"}', "\0"],
)
def test_address_that_cannot_be_read_is_not_believed(tmp_path: Path, text: str) -> None:
    home = Home(tmp_path)
    (tmp_path / homes.SERVER).write_text(text)
    assert running_stack(tmp_path) is None
    home.release()


def test_home_that_does_not_exist_has_no_stack(tmp_path: Path) -> None:
    assert running_stack(tmp_path / "nowhere") is None
    assert not (tmp_path / "nowhere").exists()


def test_key_is_kept_while_it_works_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.key(works=lambda _: True, make=lambda: "dg_first") == "dg_first"
    assert home.key(works=lambda _: True, make=lambda: "dg_second") == "dg_first"
    assert home.key(works=lambda _: False, make=lambda: "dg_third") == "dg_third"
    assert stat.S_IMODE((tmp_path / homes.KEY).stat().st_mode) == 0o600
    home.release()
