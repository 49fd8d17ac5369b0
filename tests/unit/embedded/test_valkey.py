from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from datagen.embedded import valkey
from datagen.errors import Unavailable


def test_binary_is_found_without_importing_its_package() -> None:
    assert os.access(valkey.find_binary(), os.X_OK)


def test_a_machine_without_a_binary_gets_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(Unavailable, match=r"riscv64.*DATAGEN_BROKER_URL"):
        valkey.find_binary()


def test_socket_lies_in_the_state_folder_where_the_path_is_short(tmp_path: Path) -> None:
    if len(str(tmp_path)) > 90:
        tmp_path = Path(os.path.relpath(tmp_path))
    assert valkey.socket_path(tmp_path) == tmp_path / "valkey.sock"


@pytest.mark.parametrize("name", ["x" * 150, "with a space", "50%", "hash#tag", "ünïcode"])
def test_socket_lies_in_a_short_private_folder_where_the_path_cannot_be_used(
    tmp_path: Path, name: str
) -> None:
    state = tmp_path / name
    state.mkdir()
    path = valkey.socket_path(state)
    try:
        assert len(os.fsencode(path)) <= valkey.LONGEST_SOCKET_PATH
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        valkey.remove_socket_folder(state)
    assert not path.parent.exists()


def test_folder_of_a_killed_stack_is_removed_by_the_next(tmp_path: Path) -> None:
    state = tmp_path / ("x" * 150)
    state.mkdir()
    left = valkey.socket_path(state)
    left.touch()
    path = valkey.socket_path(state)
    assert not left.parent.exists()
    assert path.parent.exists()
    valkey.remove_socket_folder(state)


def test_a_folder_that_holds_anything_else_is_not_removed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    (tmp_path / "socket-folder").write_text(str(other))
    valkey.remove_socket_folder(tmp_path)
    assert (other / "file").exists()


def test_damaged_messages_are_set_aside_and_not_removed(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "manifest").touch()
    aside = valkey.set_damaged_log_aside(tmp_path)
    assert aside is not None
    assert (aside / "manifest").exists()
    assert not (tmp_path / "appendonlydir").exists()
