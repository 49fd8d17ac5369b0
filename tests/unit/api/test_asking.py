"""Previews of one owner leave workers to those of others."""

from __future__ import annotations

import asyncio
from typing import cast
from uuid import UUID, uuid4

import pytest

from datagen.api import asking
from datagen.api.asking import Asking
from datagen.api.backends import Backends
from datagen.errors import TooManyRequests
from datagen.schemas import Made, PreviewWork


class Slow(Asking):
    """Workers that answer when the test lets them."""

    def __init__(self) -> None:
        super().__init__(cast("Backends", None))
        self.answers, self.at_work = asyncio.Event(), 0

    async def _ask(self, work: PreviewWork) -> Made:
        del work
        self.at_work += 1
        await self.answers.wait()
        return Made()


def test_owner_has_so_many_previews_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 0.05)
    work = PreviewWork(
        model_id=uuid4(), owner_id=uuid4(), reply_to="datagen:answer:" + "0" * 32, labels=[1]
    )

    async def ask() -> None:
        workers, busy, quiet = Slow(), uuid4(), uuid4()

        def begin(owner_id: UUID) -> asyncio.Task[Made]:
            return asyncio.create_task(workers.ask(owner_id, work))

        first = [begin(busy) for _ in range(asking.AT_ONCE)]
        with pytest.raises(TooManyRequests) as caught:
            await begin(busy)
        assert caught.value.retry_after == 1
        other = begin(quiet)
        while workers.at_work <= asking.AT_ONCE:
            await asyncio.sleep(0)
        workers.answers.set()
        await asyncio.gather(*first, other)
        await begin(busy)

    asyncio.run(ask())
