"""`AsyncClient`: what `Client` does, awaited.

Requests run in threads, by the one code that makes them; the event loop never waits for them. What
is cancelled is let go of at once, while a request that was sent goes on to its end unheard.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial, wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from datagen.client.async_resources import (
    AsyncExport,
    AsyncJob,
    AsyncModel,
    AsyncPipeline,
    AsyncReport,
    AsyncRun,
    Bound,
)
from datagen.client.client import Client
from datagen.client.datasets import Datasets
from datagen.client.exports import Exports
from datagen.client.figures import FigureSets
from datagen.client.jobs import Jobs
from datagen.client.keys import Keys
from datagen.client.models import Models
from datagen.client.pipelines import Pipelines, Runs
from datagen.client.reports import Reports
from datagen.client.webhooks import Webhooks
from datagen.schemas import Me, Page, Resource, SignInLink

# Requests of one client at once; as many connections stand in its pool.
AT_ONCE = 100

P = ParamSpec("P")
Namespace = TypeVar("Namespace")
Answer = TypeVar("Answer")
Made = TypeVar("Made", bound=Bound)
_END = object()


class _Space(Generic[Namespace]):
    """A namespace of the client, by which its calls are made."""

    def __init__(self, wrapped: Namespace, client: AsyncClient) -> None:
        self.wrapped, self.client = wrapped, client


def _awaited(
    method: Callable[Concatenate[Namespace, P], Answer],
) -> Callable[Concatenate[_Space[Namespace], P], Coroutine[Any, Any, Answer]]:
    """A method, awaited."""

    @wraps(method)
    async def called(space: _Space[Namespace], /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        return await space.client.run(partial(method, space.wrapped, *args, **kwargs))

    return called


def _giving(
    kind: type[Made], method: Callable[Concatenate[Namespace, P], Resource]
) -> Callable[Concatenate[_Space[Namespace], P], Coroutine[Any, Any, Made]]:
    """A method that gives a resource, awaited; what it gives is awaited in its turn."""

    @wraps(method)
    async def called(space: _Space[Namespace], /, *args: P.args, **kwargs: P.kwargs) -> Made:
        found = await space.client.run(partial(method, space.wrapped, *args, **kwargs))
        return kind.of(found, space.client)

    return called


def _giving_pages(
    kind: type[Made], method: Callable[Concatenate[Namespace, P], Page[Any]]
) -> Callable[Concatenate[_Space[Namespace], P], Coroutine[Any, Any, Page[Made]]]:
    """A method that gives a page of resources, likewise."""

    @wraps(method)
    async def called(space: _Space[Namespace], /, *args: P.args, **kwargs: P.kwargs) -> Page[Made]:
        page = await space.client.run(partial(method, space.wrapped, *args, **kwargs))
        items = [kind.of(item, space.client) for item in page.items]
        return Page[Made].model_construct(items=items, next_cursor=page.next_cursor)

    return called


def _iterated(
    method: Callable[Concatenate[Namespace, P], Iterator[Answer]],
) -> Callable[Concatenate[_Space[Namespace], P], AsyncIterator[Answer]]:
    """A method that gives one after the other, for `async for`."""

    @wraps(method)
    async def called(
        space: _Space[Namespace], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncIterator[Answer]:
        items = method(space.wrapped, *args, **kwargs)
        while (item := await space.client.run(partial(next, items, _END))) is not _END:
            yield item

    return called


def _iterated_as(
    kind: type[Made], method: Callable[Concatenate[Namespace, P], Iterator[Resource]]
) -> Callable[Concatenate[_Space[Namespace], P], AsyncIterator[Made]]:
    """A method that gives one resource after the other, likewise."""
    iterated = _iterated(method)

    @wraps(method)
    async def called(
        space: _Space[Namespace], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncIterator[Made]:
        async for item in iterated(space, *args, **kwargs):
            yield kind.of(item, space.client)

    return called


class AsyncJobs(_Space[Jobs]):
    """As `Client.jobs`."""

    create = _giving(AsyncJob, Jobs.create)
    plan = _awaited(Jobs.plan)
    get = _giving(AsyncJob, Jobs.get)
    list = _giving_pages(AsyncJob, Jobs.list)
    extend = _giving(AsyncJob, Jobs.extend)
    retry = _giving(AsyncJob, Jobs.retry)
    cancel = _giving(AsyncJob, Jobs.cancel)
    remove = _awaited(Jobs.remove)
    wait = _giving(AsyncJob, Jobs.wait)
    events = _iterated_as(AsyncJob, Jobs.events)
    samples = _iterated(Jobs.samples)
    sample = _awaited(Jobs.sample)
    image = _awaited(Jobs.image)


class AsyncExports(_Space[Exports]):
    """As `Client.exports`."""

    create = _giving(AsyncExport, Exports.create)
    formats = _awaited(Exports.formats)
    get = _giving(AsyncExport, Exports.get)
    list = _giving_pages(AsyncExport, Exports.list)
    cancel = _giving(AsyncExport, Exports.cancel)
    remove = _awaited(Exports.remove)
    link = _awaited(Exports.link)
    wait = _giving(AsyncExport, Exports.wait)
    download = _awaited(Exports.download)


class AsyncDatasets(_Space[Datasets]):
    """As `Client.datasets`."""

    add = _awaited(Datasets.add)
    inspect = _awaited(Datasets.inspect)
    get = _awaited(Datasets.get)
    list = _awaited(Datasets.list)
    balance = _awaited(Datasets.balance)
    remove = _awaited(Datasets.remove)


class AsyncModels(_Space[Models]):
    """As `Client.models`."""

    create = _giving(AsyncModel, Models.create)
    get = _giving(AsyncModel, Models.get)
    list = _giving_pages(AsyncModel, Models.list)
    compare = _awaited(Models.compare)
    preview = _awaited(Models.preview)
    decode = _awaited(Models.decode)
    export = _awaited(Models.export)
    import_ = _giving(AsyncModel, Models.import_)
    remove = _awaited(Models.remove)
    share = _giving(AsyncModel, Models.share)
    cancel = _giving(AsyncModel, Models.cancel)
    wait = _giving(AsyncModel, Models.wait)


class AsyncFigureSets(_Space[FigureSets]):
    """As `Client.figures`."""

    create = _awaited(FigureSets.create)
    get = _awaited(FigureSets.get)
    wait = _awaited(FigureSets.wait)
    fetch = _awaited(FigureSets.fetch)


class AsyncReports(_Space[Reports]):
    """As `Client.reports`."""

    create = _giving(AsyncReport, Reports.create)
    get = _giving(AsyncReport, Reports.get)
    list = _giving_pages(AsyncReport, Reports.list)
    wait = _giving(AsyncReport, Reports.wait)
    cancel = _giving(AsyncReport, Reports.cancel)
    remove = _awaited(Reports.remove)
    fetch = _awaited(Reports.fetch)


class AsyncPipelines(_Space[Pipelines]):
    """As `Client.pipelines`."""

    apply = _giving(AsyncPipeline, Pipelines.apply)
    validate = _awaited(Pipelines.validate)
    get = _giving(AsyncPipeline, Pipelines.get)
    list = _giving_pages(AsyncPipeline, Pipelines.list)
    pause = _giving(AsyncPipeline, Pipelines.pause)
    resume = _giving(AsyncPipeline, Pipelines.resume)
    next = _awaited(Pipelines.next)
    dry_run = _awaited(Pipelines.dry_run)
    run = _giving(AsyncRun, Pipelines.run)
    history = _giving_pages(AsyncRun, Pipelines.history)
    remove = _awaited(Pipelines.remove)


class AsyncRuns(_Space[Runs]):
    """As `Client.runs`."""

    get = _giving(AsyncRun, Runs.get)
    cancel = _giving(AsyncRun, Runs.cancel)
    wait = _giving(AsyncRun, Runs.wait)


class AsyncKeys(_Space[Keys]):
    """As `Client.keys`."""

    create = _awaited(Keys.create)
    get = _awaited(Keys.get)
    list = _awaited(Keys.list)
    revoke = _awaited(Keys.revoke)
    rotate = _awaited(Keys.rotate)


class AsyncWebhooks(_Space[Webhooks]):
    """As `Client.webhooks`."""

    create = _awaited(Webhooks.create)
    get = _awaited(Webhooks.get)
    list = _awaited(Webhooks.list)
    rotate = _awaited(Webhooks.rotate)
    remove = _awaited(Webhooks.remove)
    test = _awaited(Webhooks.test)
    deliveries = _awaited(Webhooks.deliveries)
    resend = _awaited(Webhooks.resend)


class AsyncClient:
    """A connection to a datagen server, for code that awaits; asyncio or trio.

    What tells of progress is called in a thread.

    Example:
        >>> async with AsyncClient() as dg:  # doctest: +SKIP
        ...     job = await dg.jobs.create("mnist", {"3": 500, "8": 200}, seed=7)
        ...     job = await job.wait()
        ...     export = await job.export("webdataset")
        ...     await export.download("digits")

    Args:
        url: the server, such as `http://127.0.0.1:8000`.
        api_key: the key, `dg_…`.
        home: the state folder to look in; `DATAGEN_HOME` if None.
        timeout: seconds that one request may take.

    Raises:
        InvalidRequest: the URL or the key cannot be one.
        ServerUnreachable: no server is named, and none runs on the home.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        home: Path | str | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._client = client = Client(url, api_key, home=home, timeout=timeout)
        self._limiter: CapacityLimiter | None = None
        self.url = client.url
        self.jobs = AsyncJobs(client.jobs, self)
        self.exports = AsyncExports(client.exports, self)
        self.datasets = AsyncDatasets(client.datasets, self)
        self.models = AsyncModels(client.models, self)
        self.figures = AsyncFigureSets(client.figures, self)
        self.reports = AsyncReports(client.reports, self)
        self.pipelines = AsyncPipelines(client.pipelines, self)
        self.runs = AsyncRuns(client.runs, self)
        self.keys = AsyncKeys(client.keys, self)
        self.webhooks = AsyncWebhooks(client.webhooks, self)

    async def me(self) -> Me:
        """Who your key belongs to, how far it reaches, and what is used of the quota."""
        return await self.run(self._client.me)

    async def sign_in_link(self) -> SignInLink:
        """A link that signs a browser in to the web page once, as the holder of your key."""
        return await self.run(self._client.sign_in_link)

    async def run(self, call: Callable[[], Answer]) -> Answer:
        """What a call gives that may wait; it runs in a thread."""
        if self._limiter is None:
            # It belongs to the event loop that runs now.
            self._limiter = CapacityLimiter(AT_ONCE)
        return await run_sync(call, abandon_on_cancel=True, limiter=self._limiter)

    async def close(self) -> None:
        """Close the connections; an `async with` block does it too."""
        self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
