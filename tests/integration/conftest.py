from __future__ import annotations

import time
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Wait for a condition, and fail where it does not come true in time."""

    def wait(condition: Callable[[], object], seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)

    return wait
