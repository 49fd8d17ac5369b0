"""What is done in a reader's process: whatever opens a file that anybody may have made.

Its modules are loaded before the first request, so nothing here imports the database.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datagen.datasets.opening import open_dataset
from datagen.datasets.reading import Opened, ReadOptions
from datagen.service import remote_sources
from datagen.service.ingesting import write_splits
from datagen.service.packages import read_package
from datagen.settings import Settings

Task = Callable[[Settings, dict[str, Any]], dict[str, Any]]


def _opened(settings: Settings, request: dict[str, Any], folder: Path) -> Opened:
    """The dataset of a request, which names a file of this machine or a URL."""
    options = ReadOptions(**request["options"])
    if "source" in request:
        source = Path(request["source"])
    else:
        fetched = folder / "fetched"
        fetched.mkdir()
        source = remote_sources.fetch(settings, request["url"], fetched)
    work = folder / "work"
    work.mkdir()
    return open_dataset(source, options, work)


def _ingest(settings: Settings, request: dict[str, Any]) -> dict[str, Any]:
    folder = Path(request["folder"])
    return asdict(write_splits(_opened(settings, request, folder), folder))


def _inspect(settings: Settings, request: dict[str, Any]) -> dict[str, Any]:
    return _opened(settings, request, Path(request["folder"])).summary()


def _package(settings: Settings, request: dict[str, Any]) -> dict[str, Any]:
    del settings
    package = read_package(Path(request["path"]), Path(request["folder"]))
    return {
        "document": package.document.model_dump(mode="json"),
        "header": package.header.model_dump(mode="json"),
    }


TASKS: dict[str, Task] = {"ingest": _ingest, "inspect": _inspect, "package": _package}
