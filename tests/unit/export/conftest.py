from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from drawing import CASES, SEVERAL, SHAPES, Drawn


@pytest.fixture
def drawn() -> Drawn:
    """Three classes with unlike counts."""
    return Drawn({"cat": 4, "dog": 9, "owl": 5})


@pytest.fixture
def draw() -> type[Drawn]:
    """Makes samples of the test's own."""
    return Drawn


@pytest.fixture(params=SHAPES, ids=["grey", "rgb"])
def shape(request: pytest.FixtureRequest) -> tuple[int, int, int]:
    size: tuple[int, int, int] = request.param
    return size


@pytest.fixture(params=[*CASES, "several splits"])
def whole(request: pytest.FixtureRequest, draw: Any, shape: tuple[int, int, int]) -> Any:
    """What is to be exported, in all the cases."""
    if request.param == "several splits":
        return draw(CASES["ordinary"], shape=shape, **SEVERAL)
    return draw(CASES[request.param], shape=shape)


@pytest.fixture(scope="session")
def load_dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """`datasets.load_dataset` without network, that keeps its files in the test's folder."""
    cache = tmp_path_factory.mktemp("huggingface")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HOME", "HF_DATASETS_CACHE", "HF_MODULES_CACHE"):
            patch.setenv(name, str(cache / name))
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
            patch.setenv(name, "1")
        import datasets  # noqa: PLC0415 - it reads its settings when it is imported

        def load(folder: Path) -> Any:
            return datasets.load_dataset(str(folder), cache_dir=str(folder.parent / "cache"))

        yield load
