"""The client that is awaited, against a real server."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from datagen import AsyncClient, Client
from datagen.errors import NotFound, UnknownLabel

pytestmark = pytest.mark.xdist_group("stack")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_job_is_made_followed_read_and_brought_home(
    stack: Any, tmp_path: Path, backend: str
) -> None:
    async def use() -> None:
        async with AsyncClient(stack.url, stack.key) as dg:
            assert (await dg.me()).owner == "local"
            job = await dg.jobs.create("mnist", {"3": 2, "8": 1}, seed=7, gate=None)
            states = [told.state async for told in job.events()]
            assert states[-1] == "succeeded"
            job = await job.wait(timeout=60)
            assert [one.label async for one in job.samples()] == ["3", "3", "8"]
            assert len([one async for one in dg.jobs.samples(job.id, label="8")]) == 1
            export = await job.export("webdataset")
            out = await export.download(tmp_path / "out")
            assert (out / "manifest.json").is_file()
            page = await dg.jobs.list(limit=1)
            assert (await page.items[0].refresh()).id == job.id
            assert len(await (await dg.models.get("mnist")).preview({"3": 2})) == 2
            await job.remove(force=True)
            with pytest.raises(NotFound):
                await job.refresh()

    anyio.run(use, backend=backend)


def test_errors_are_the_classes_of_datagen(stack: Any) -> None:
    async def use() -> None:
        async with AsyncClient(stack.url, stack.key) as dg:
            with pytest.raises(UnknownLabel):
                await dg.jobs.create("mnist", {"eleven": 1})
            with pytest.raises(TypeError, match="'sede' is no option"):
                await dg.jobs.create("mnist", {"3": 1}, sede=1)  # type: ignore[call-arg]

    asyncio.run(use())


def test_others_run_while_one_waits_and_what_is_cancelled_is_let_go_of(stack: Any) -> None:
    async def use() -> None:
        async with AsyncClient(stack.url, stack.key) as dg:
            jobs = await asyncio.gather(
                *(dg.jobs.create("mnist", {"3": 1}, gate=None) for _ in range(8))
            )
            long = await dg.jobs.create("mnist", {"3": 1_000_000}, gate=None)
            waiting = asyncio.create_task(long.wait())
            ended = await asyncio.gather(*(job.wait() for job in jobs))
            assert {job.state for job in ended} == {"succeeded"}
            assert not waiting.done()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            # It goes on, though nobody waits for it any more.
            assert (await long.cancel()).state == "cancelled"

    asyncio.run(use())


def test_everything_that_the_client_can_do_can_be_awaited(stack: Any) -> None:
    """Each namespace, and each resource, has the same names, and each is awaited."""

    def names(of: object) -> set[str]:
        return {name for name, _ in inspect.getmembers(of, inspect.isroutine) if name[0] != "_"}

    async def use() -> None:
        async with AsyncClient(stack.url, stack.key) as dg:
            with Client(stack.url, stack.key) as plain:
                spaces = [name for name in vars(plain) if name not in {"url", "_transport"}]
                assert len(spaces) == 10
                for space in spaces:
                    awaited = getattr(dg, space)
                    assert names(getattr(plain, space)) == names(awaited), space
                    for name in names(awaited):
                        method = getattr(awaited, name)
                        assert inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(
                            method
                        ), f"{space}.{name}"
                job = await dg.jobs.create("mnist", {"3": 1}, gate=None)
                own = names(type(plain.jobs.get(job.id))) - names(
                    type(plain.jobs.get(job.id)).__mro__[2]
                )
                assert own <= names(type(job)), own - names(type(job))
                assert isinstance(job.samples(), AsyncIterator)

    asyncio.run(use())
