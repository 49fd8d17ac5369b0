"""What a worker process keeps: made when first needed, in the process that needs it.

Connections must not be carried over into a child process, so nothing here is made on import.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from datagen.db.session import open_engine
from datagen.queue import CeleryQueue, Queue
from datagen.settings import Settings, load_settings
from datagen.storage import Storage, open_storage

if TYPE_CHECKING:
    from datagen.work.generation import Generation


@dataclass(frozen=True)
class Context:
    """The database, the store and the queue of the settings in the environment."""

    settings: Settings
    engine: Engine
    storage: Storage
    queue: Queue


@cache
def context() -> Context:
    """The process's context."""
    settings = load_settings()
    return Context(
        settings=settings,
        engine=open_engine(settings.database),
        storage=open_storage(settings.storage),
        queue=CeleryQueue(str(settings.broker_url)),
    )


@cache
def generation() -> Generation:
    """The process's generators, loaded and warm; only workers with torch may ask for it."""
    from datagen.work.generation import Generation  # noqa: PLC0415 - light workers have no torch

    own = context()
    return Generation.begin(own.engine, own.storage, own.queue, own.settings)
