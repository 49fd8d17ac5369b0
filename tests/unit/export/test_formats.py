from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import DatagenError, InvalidRequest
from datagen.export import formats
from datagen.export.formats import known_format
from datagen.export.parquet import FORMAT as PARQUET
from datagen.export.protocol import Format

OUTSIDE = Format("outside", "another package's", PARQUET.write, "open it")
NO_FORMAT = "something else"


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Lets another package register formats, as its entry points do when it is installed."""

    def register(**values: str) -> None:
        points = [EntryPoint(name, value, formats.ENTRY_POINTS) for name, value in values.items()]
        monkeypatch.setattr(
            formats, "entry_points", lambda group: points if group == formats.ENTRY_POINTS else []
        )
        formats._brought.cache_clear()

    yield register
    formats._brought.cache_clear()


def test_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(
        InvalidRequest, match=r"no export format 'tiff'.*imagefolder.*parquet"
    ) as no:
        known_format("tiff")
    assert no.value.field == "format"


def test_format_of_another_package_is_known(brought: Any) -> None:
    brought(outside=f"{__name__}:OUTSIDE")
    assert known_format("outside").summary == "another package's"
    assert {"outside", "parquet"} <= set(formats.formats())


def test_name_of_ours_cannot_be_taken_over(brought: Any) -> None:
    brought(parquet=f"{__name__}:OUTSIDE")
    assert known_format("parquet") is PARQUET


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("nowhere.at.all:FORMAT", "cannot be loaded: ModuleNotFoundError"),
        (f"{__name__}:MISSING", "cannot be loaded: AttributeError"),
        (f"{__name__}:NO_FORMAT", "is no Format of that name"),
    ],
)
def test_package_that_cannot_be_loaded_harms_its_own_format_alone(
    brought: Any, value: str, told: str
) -> None:
    brought(outside=value)
    with pytest.raises(DatagenError, match=told):
        known_format("outside")
    assert "outside" not in formats.formats()
    assert known_format("parquet") is PARQUET


@pytest.mark.parametrize(
    ("name", "shape", "classes", "splits", "told"),
    [
        ("idx", (3, 28, 28), 2, ["train"], "grey images only"),
        ("idx", (1, 28, 28), 2, ["train", "validation"], "no place for the split 'validation'"),
        ("idx", (1, 28, 28), 257, ["train"], "from 0 to 255"),
        ("stylegan", (1, 28, 28), 2, ["train"], "power of two, and these are 28 x 28"),
        ("stylegan", (3, 32, 64), 2, ["train"], "these are 64 x 32"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    name: str, shape: Any, classes: int, splits: list[str], told: str
) -> None:
    with pytest.raises(InvalidRequest, match=told) as no:
        known_format(name).refuse(shape, [str(label) for label in range(classes)], splits)
    assert no.value.field == "format"


@pytest.mark.parametrize("name", formats.formats())
def test_ordinary_images_are_held(name: str) -> None:
    known_format(name).refuse((1, 32, 32), ["a", "b"], ["train", "test"])


def test_example_of_the_documentation_is_a_format_once_its_package_is_installed(
    tmp_path: Path,
) -> None:
    text = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[-1]
    (tmp_path / "my_formats.py").write_text(code)
    installed = tmp_path / "my_formats-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my-formats\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(f"[{formats.ENTRY_POINTS}]\ncsv = my_formats:CSV\n")
    support = Path(__file__).parents[2] / "support"
    script = f"""
import sys
sys.path.insert(0, {str(support)!r})
from pathlib import Path
from drawing import Drawn
from datagen.export.manifest import problems
out = Path({str(tmp_path / "out")!r})
Drawn({{"cat": 3, "dog": 2}}, real={{"test": {{"dog": 1}}}}).write("csv", out)
assert problems(out) == []
lines = (out / "train.csv").read_text().splitlines()
assert lines[0] == "label,synthetic,png" and len(lines) == 6
assert lines[1].startswith("cat,True,")
assert (out / "test.csv").read_text().splitlines()[1].startswith("dog,False,")
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
