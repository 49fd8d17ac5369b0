"""What importing the client costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

SLOW = ("torch", "numpy", "pyarrow", "PIL", "sqlalchemy", "fastapi", "celery", "redis")


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_client_loads_nothing_that_is_slow_to_load(name: str) -> None:
    code = f"import sys; from datagen import {name}; print(*sorted(set({SLOW}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
