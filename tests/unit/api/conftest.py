from __future__ import annotations

from collections.abc import Iterator

import pytest
from application import Api
from sqlalchemy import Engine
from starlette.testclient import TestClient

from datagen.api.app import create_app
from datagen.queue import MemoryQueue
from datagen.settings import Settings


@pytest.fixture
def api(settings: Settings, engine: Engine) -> Iterator[Api]:
    queue = MemoryQueue()
    app = create_app(settings, queue=queue)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield Api(client, queue, engine)
