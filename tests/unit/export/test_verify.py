from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datagen.export.formats import formats
from datagen.export.manifest import problems


@pytest.mark.parametrize("name", formats())
def test_one_flipped_bit_in_any_file_is_found(name: str, draw: Any, tmp_path: Path) -> None:
    draw({"cat": 3, "dog": 2}, shape=(1, 8, 8), real={"test": {"cat": 1}}).write(name, tmp_path)
    assert problems(tmp_path) == []
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    for path in files:
        if path.name == "manifest.json":
            continue
        data = path.read_bytes()
        spoilt = bytearray(data)
        spoilt[len(data) // 2] ^= 1
        path.write_bytes(spoilt)
        name_of = path.relative_to(tmp_path).as_posix()
        assert problems(tmp_path) == [f"{name_of} is not as it was written."]
        path.write_bytes(data)
