"""Faults that find no victim are not counted, and leave nothing behind."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from chaos import CUTS, LOCKS, REFUSALS, Chaos


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    """The store's folder for unfinished files, with one in it."""
    folder = tmp_path / "storage" / ".incoming"
    folder.mkdir(parents=True)
    (folder / "old").touch()
    return folder


@pytest.fixture
def chaos(tmp_path: Path) -> Chaos:
    service: Any = SimpleNamespace(home=tmp_path)
    return Chaos(service, "sqlite:///d.db", random.Random(1), 1.0)


def test_store_refuses_until_the_fault_is_over(chaos: Chaos, incoming: Path) -> None:
    assert chaos._refuse_writes() == REFUSALS
    assert incoming.is_file()
    chaos.recover(all_of_it=True)
    assert [path.name for path in incoming.iterdir()] == ["old"]


def test_refusal_that_a_writer_forestalls_is_none_and_loses_no_file(
    chaos: Chaos, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def forestalled(path: Path, target: Path) -> Path:
        moved = rename(path, target)
        if path == incoming:
            incoming.mkdir()
            (incoming / "new").touch()
        return moved

    monkeypatch.setattr(Path, "rename", forestalled)
    assert chaos._refuse_writes() is None
    assert sorted(path.name for path in incoming.iterdir()) == ["new", "old"]
    assert [path.name for path in incoming.parent.iterdir()] == [incoming.name]


def test_kinds_that_were_never_staged_are_those_of_the_database(chaos: Chaos) -> None:
    assert LOCKS in chaos.never_staged()
    assert CUTS not in chaos.never_staged()
    chaos.done[LOCKS] += 1
    assert LOCKS not in chaos.never_staged()
