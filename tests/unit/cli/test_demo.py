from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datagen.cli import demo
from datagen.errors import InvalidRequest


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder as a demo leaves it, with a file of the user's own beside."""
    out = tmp_path / "demo"
    for name in ("home/storage", "imagefolder/train/3", "parquet/data"):
        (out / name).mkdir(parents=True)
    for name in (demo.MARKER, "home/datagen.db", "contact-sheet.png", "summary.json", "mine.txt"):
        (out / name).write_text("x")
    return out


def test_second_run_says_what_is_there_and_names_force(command: Any, made: Path) -> None:
    ran = command("demo", "--out", str(made))
    assert (ran.code, ran.out) == (2, "")
    assert "home, imagefolder, parquet, contact-sheet.png, summary.json" in ran.err
    assert "--force" in ran.err
    assert (made / "home" / "datagen.db").exists()


def test_force_removes_what_a_demo_made_and_nothing_else(made: Path) -> None:
    demo._make_room(made, force=True)
    assert sorted(path.name for path in made.iterdir()) == [demo.MARKER, "mine.txt"]


def test_force_touches_nothing_where_no_demo_was(made: Path) -> None:
    (made / demo.MARKER).unlink()
    with pytest.raises(InvalidRequest, match="no demo made that"):
        demo._make_room(made, force=True)
    assert (made / "home" / "datagen.db").exists()


def test_force_does_not_follow_links(made: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    (made / "parquet" / "data").rmdir()
    (made / "parquet").rmdir()
    (made / "parquet").symlink_to(elsewhere)
    demo._make_room(made, force=True)
    assert (elsewhere / "precious").exists()


def test_folder_of_the_user_stays_as_it_is_beside_a_first_demo(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    demo._make_room(tmp_path, force=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [demo.MARKER, "mine.txt"]


def test_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidRequest, match="no folder"):
        demo._make_room(tmp_path / "file", force=True)
    with pytest.raises(InvalidRequest, match="cannot be written"):
        demo._make_room(tmp_path / "file" / "deeper", force=True)
