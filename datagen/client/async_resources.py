"""What `AsyncClient` answers with: the wire types, with what can be awaited of them."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from pydantic import PrivateAttr

from datagen import schemas
from datagen.client.options import ExportOptions, PreviewOptions
from datagen.client.waiting import Told

if TYPE_CHECKING:
    from datagen.client.asynchronous import AsyncClient
    from datagen.client.pictures import Pictures
    from datagen.schemas import Balance, Page, Sample, State


class Bound(schemas.Resource):
    """A resource that knows the client that it came by."""

    _dg: AsyncClient = PrivateAttr()

    @classmethod
    def of(cls, found: schemas.Resource, client: AsyncClient) -> Self:
        """What `Client` gave, for code that awaits."""
        # Checked once already, when it came.
        made = cls.model_construct(**dict(found))
        made._dg = client  # noqa: SLF001 - of its own class
        return made  # type: ignore[return-value]  # pydantic.mypy names the class it stands in


class AsyncJob(Bound, schemas.Job):
    """A job, as `AsyncClient.jobs` gives it; a snapshot."""

    async def refresh(self) -> AsyncJob:
        """The job as it is now. Raises NotFound."""
        return await self._dg.jobs.get(self.id)

    async def wait(self, progress: Told[Any] = None, *, timeout: float | None = None) -> AsyncJob:
        """See `Client.jobs.wait`."""
        return await self._dg.jobs.wait(self.id, progress, timeout=timeout)

    def events(self) -> AsyncIterator[AsyncJob]:
        """See `Client.jobs.events`."""
        return self._dg.jobs.events(self.id)

    def samples(self, *, label: str | None = None) -> AsyncIterator[Sample]:
        """See `Client.jobs.samples`."""
        return self._dg.jobs.samples(self.id, label=label)

    async def image(self, index: int) -> bytes:
        """One sample's PNG. Raises NotFound while it is not stored."""
        return await self._dg.jobs.image(self.id, index)

    async def export(
        self,
        format: str = "parquet",  # noqa: A002 - the word that users know
        **options: Unpack[ExportOptions],
    ) -> AsyncExport:
        """See `Client.exports.create`. Raises Conflict while the job has not ended."""
        return await self._dg.exports.create(self.id, format, **options)

    async def report(self, *, quick: bool = False, images: int | None = None) -> AsyncReport:
        """See `Client.reports.create`. Raises Conflict while the job has not ended."""
        return await self._dg.reports.create(job=self.id, quick=quick, images=images)

    async def extend(
        self,
        labels: Mapping[str, int] | None = None,
        *,
        per_label: int | None = None,
        count: int | None = None,
        balance: Balance | Mapping[str, Any] | None = None,
    ) -> AsyncJob:
        """See `Client.jobs.extend`."""
        return await self._dg.jobs.extend(
            self.id, labels, per_label=per_label, count=count, balance=balance
        )

    async def retry(self) -> AsyncJob:
        """See `Client.jobs.retry`."""
        return await self._dg.jobs.retry(self.id)

    async def cancel(self) -> AsyncJob:
        """Stop the job; what is stored stays. Raises Conflict when it has ended."""
        return await self._dg.jobs.cancel(self.id)

    async def remove(self, *, force: bool = False) -> None:
        """See `Client.jobs.remove`."""
        await self._dg.jobs.remove(self.id, force=force)


class AsyncExport(Bound, schemas.Export):
    """An export, as `AsyncClient.exports` gives it; a snapshot."""

    async def refresh(self) -> AsyncExport:
        """The export as it is now. Raises NotFound."""
        return await self._dg.exports.get(self.id)

    async def wait(
        self, progress: Told[Any] = None, *, timeout: float | None = None
    ) -> AsyncExport:
        """See `Client.exports.wait`."""
        return await self._dg.exports.wait(self.id, progress, timeout=timeout)

    async def download(
        self,
        out: Path | str,
        *,
        progress: Callable[[int, int], None] | Literal[True] | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Wait until it has ended, fetch it and unpack it; see `Client.exports.download`."""
        ended = await self.wait(True if progress is True else None)
        return await self._dg.exports.download(
            ended.id, out, progress=progress, overwrite=overwrite
        )

    async def link(
        self,
        *,
        archive: Literal["zip", "tar"] = "zip",
        file: str | None = None,
        expires_in: int = 3600,
    ) -> schemas.Link:
        """See `Client.exports.link`."""
        return await self._dg.exports.link(
            self.id, archive=archive, file=file, expires_in=expires_in
        )

    async def cancel(self) -> AsyncExport:
        """End it. Raises Conflict where it has ended."""
        return await self._dg.exports.cancel(self.id)

    async def remove(self) -> None:
        """Remove it with its files. Raises Conflict while it is written."""
        await self._dg.exports.remove(self.id)


class AsyncModel(Bound, schemas.Model):
    """A model, as `AsyncClient.models` gives it; a snapshot."""

    async def refresh(self) -> AsyncModel:
        """The model as it is now. Raises NotFound."""
        return await self._dg.models.get(self.id)

    async def wait(self, progress: Told[Any] = None, *, timeout: float | None = None) -> AsyncModel:
        """See `Client.models.wait`."""
        return await self._dg.models.wait(self.id, progress, timeout=timeout)

    async def preview(
        self, labels: Mapping[str, int] | None = None, **options: Unpack[PreviewOptions]
    ) -> Pictures:
        """See `Client.models.preview`."""
        return await self._dg.models.preview(self.id, labels, **options)

    async def cancel(self) -> AsyncModel:
        """Stop its training. Raises Conflict when it has ended."""
        return await self._dg.models.cancel(self.id)


class AsyncReport(Bound, schemas.Report):
    """A report, as `AsyncClient.reports` gives it; a snapshot."""

    async def refresh(self) -> AsyncReport:
        """The report as it is now. Raises NotFound."""
        return await self._dg.reports.get(self.id)

    async def wait(
        self, progress: Told[Any] = None, *, timeout: float | None = None
    ) -> AsyncReport:
        """See `Client.reports.wait`."""
        return await self._dg.reports.wait(self.id, progress, timeout=timeout)

    async def fetch(self, name: str = "report.json") -> builtins.bytes:
        """`report.json` or `report.html`. Raises Conflict while it is not there."""
        return await self._dg.reports.fetch(self.id, name)

    async def cancel(self) -> AsyncReport:
        """Stop it. Raises Conflict when it has ended."""
        return await self._dg.reports.cancel(self.id)


class AsyncPipeline(Bound, schemas.Pipeline):
    """A pipeline, as `AsyncClient.pipelines` gives it; a snapshot."""

    async def refresh(self) -> AsyncPipeline:
        """The pipeline as it is now. Raises NotFound."""
        return await self._dg.pipelines.get(self.id)

    async def run(self) -> AsyncRun:
        """See `Client.pipelines.run`."""
        return await self._dg.pipelines.run(self.id)

    async def dry_run(self) -> schemas.DryRun:
        """See `Client.pipelines.dry_run`."""
        return await self._dg.pipelines.dry_run(self.id)

    async def history(
        self, *, state: State | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[AsyncRun]:
        """One page of its runs, newest first."""
        return await self._dg.pipelines.history(self.id, state=state, limit=limit, cursor=cursor)

    async def pause(self) -> AsyncPipeline:
        """Let no due time come any more."""
        return await self._dg.pipelines.pause(self.id)

    async def resume(self) -> AsyncPipeline:
        """Let due times come again."""
        return await self._dg.pipelines.resume(self.id)

    async def remove(self) -> None:
        """Remove it with its history. Raises Conflict while it runs."""
        await self._dg.pipelines.remove(self.id)


class AsyncRun(Bound, schemas.Run):
    """A run of a pipeline, as `AsyncClient.runs` gives it; a snapshot."""

    async def refresh(self) -> AsyncRun:
        """The run as it is now. Raises NotFound."""
        return await self._dg.runs.get(self.id)

    async def wait(self, progress: Told[Any] = None, *, timeout: float | None = None) -> AsyncRun:
        """See `Client.runs.wait`."""
        return await self._dg.runs.wait(self.id, progress, timeout=timeout)

    async def cancel(self) -> AsyncRun:
        """Stop it and the step that it is at. Raises Conflict when it has ended."""
        return await self._dg.runs.cancel(self.id)
