"""What the client answers with: the wire types, each with what can be done with it.

They are snapshots: what changes on the server changes no object that is here. Whatever asks the
server again gives a new one.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from pydantic import PrivateAttr

from datagen import schemas
from datagen.client.options import ExportOptions, PreviewOptions
from datagen.client.transport import CLIENT
from datagen.client.waiting import Told

if TYPE_CHECKING:
    from datagen.client.client import Client
    from datagen.client.pictures import Pictures
    from datagen.schemas import Balance, Page, Sample, State


class Connected(schemas.Resource):
    """A resource that knows the client that it came by."""

    _client: Any = PrivateAttr(default=None)

    def model_post_init(self, context: Any) -> None:
        """Take the client from the context that the transport reads answers with."""
        self._client = context.get(CLIENT) if isinstance(context, Mapping) else None

    @property
    def _dg(self) -> Client:
        if self._client is None:
            raise ValueError(
                f"This {type(self).__name__} did not come from a Client; "
                "ask one for it, and take what it gives."
            )
        client: Client = self._client
        return client


class Job(Connected, schemas.Job):
    """A job, as `Client.jobs` gives it.

    Example:
        >>> job = dg.jobs.create("mnist", {"3": 500}).wait(progress=True)  # doctest: +SKIP
        >>> job.export("webdataset").download("out")  # doctest: +SKIP
    """

    def refresh(self) -> Job:
        """The job as it is now. Raises NotFound."""
        return self._dg.jobs.get(self.id)

    def wait(self, progress: Told[Job] = None, *, timeout: float | None = None) -> Job:
        """See `Client.jobs.wait`."""
        return self._dg.jobs.wait(self.id, progress, timeout=timeout)

    def events(self) -> Iterator[Job]:
        """See `Client.jobs.events`."""
        return self._dg.jobs.events(self.id)

    def samples(self, *, label: str | None = None) -> Iterator[Sample]:
        """See `Client.jobs.samples`."""
        return self._dg.jobs.samples(self.id, label=label)

    def image(self, index: int) -> builtins.bytes:
        """One sample's PNG. Raises NotFound while it is not stored."""
        return self._dg.jobs.image(self.id, index)

    def export(
        self,
        format: str = "parquet",  # noqa: A002 - the word that users know
        **options: Unpack[ExportOptions],
    ) -> Export:
        """See `Client.exports.create`. Raises Conflict while the job has not ended."""
        return self._dg.exports.create(self.id, format, **options)

    def report(self, *, quick: bool = False, images: int | None = None) -> Report:
        """See `Client.reports.create`. Raises Conflict while the job has not ended."""
        return self._dg.reports.create(job=self.id, quick=quick, images=images)

    def extend(
        self,
        labels: Mapping[str, int] | None = None,
        *,
        per_label: int | None = None,
        count: int | None = None,
        balance: Balance | Mapping[str, Any] | None = None,
    ) -> Job:
        """See `Client.jobs.extend`."""
        return self._dg.jobs.extend(
            self.id, labels, per_label=per_label, count=count, balance=balance
        )

    def retry(self) -> Job:
        """See `Client.jobs.retry`."""
        return self._dg.jobs.retry(self.id)

    def cancel(self) -> Job:
        """Stop the job; what is stored stays. Raises Conflict when it has ended."""
        return self._dg.jobs.cancel(self.id)

    def remove(self, *, force: bool = False) -> None:
        """See `Client.jobs.remove`."""
        self._dg.jobs.remove(self.id, force=force)


class Export(Connected, schemas.Export):
    """An export, as `Client.exports` gives it."""

    def refresh(self) -> Export:
        """The export as it is now. Raises NotFound."""
        return self._dg.exports.get(self.id)

    def wait(self, progress: Told[Export] = None, *, timeout: float | None = None) -> Export:
        """See `Client.exports.wait`."""
        return self._dg.exports.wait(self.id, progress, timeout=timeout)

    def download(
        self,
        out: Path | str,
        *,
        progress: Callable[[int, int], None] | Literal[True] | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Wait until it has ended, fetch it and unpack it; see `Client.exports.download`."""
        ended = self.wait(True if progress is True else None)
        return self._dg.exports.download(ended.id, out, progress=progress, overwrite=overwrite)

    def link(
        self,
        *,
        archive: Literal["zip", "tar"] = "zip",
        file: str | None = None,
        expires_in: int = 3600,
    ) -> schemas.Link:
        """See `Client.exports.link`."""
        return self._dg.exports.link(self.id, archive=archive, file=file, expires_in=expires_in)

    def cancel(self) -> Export:
        """End it. Raises Conflict where it has ended."""
        return self._dg.exports.cancel(self.id)

    def remove(self) -> None:
        """Remove it with its files. Raises Conflict while it is written."""
        self._dg.exports.remove(self.id)


class Model(Connected, schemas.Model):
    """A model, as `Client.models` gives it."""

    def refresh(self) -> Model:
        """The model as it is now. Raises NotFound."""
        return self._dg.models.get(self.id)

    def wait(self, progress: Told[Model] = None, *, timeout: float | None = None) -> Model:
        """See `Client.models.wait`."""
        return self._dg.models.wait(self.id, progress, timeout=timeout)

    def preview(
        self, labels: Mapping[str, int] | None = None, **options: Unpack[PreviewOptions]
    ) -> Pictures:
        """See `Client.models.preview`."""
        return self._dg.models.preview(self.id, labels, **options)

    def cancel(self) -> Model:
        """Stop its training. Raises Conflict when it has ended."""
        return self._dg.models.cancel(self.id)


class Report(Connected, schemas.Report):
    """A report, as `Client.reports` gives it."""

    def refresh(self) -> Report:
        """The report as it is now. Raises NotFound."""
        return self._dg.reports.get(self.id)

    def wait(self, progress: Told[Report] = None, *, timeout: float | None = None) -> Report:
        """See `Client.reports.wait`."""
        return self._dg.reports.wait(self.id, progress, timeout=timeout)

    def fetch(self, name: str = "report.json") -> builtins.bytes:
        """`report.json` or `report.html`. Raises Conflict while it is not there."""
        return self._dg.reports.fetch(self.id, name)

    def cancel(self) -> Report:
        """Stop it. Raises Conflict when it has ended."""
        return self._dg.reports.cancel(self.id)


class Pipeline(Connected, schemas.Pipeline):
    """A pipeline, as `Client.pipelines` gives it."""

    def refresh(self) -> Pipeline:
        """The pipeline as it is now. Raises NotFound."""
        return self._dg.pipelines.get(self.id)

    def run(self) -> Run:
        """See `Client.pipelines.run`."""
        return self._dg.pipelines.run(self.id)

    def dry_run(self) -> schemas.DryRun:
        """See `Client.pipelines.dry_run`."""
        return self._dg.pipelines.dry_run(self.id)

    def history(
        self, *, state: State | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[Run]:
        """One page of its runs, newest first."""
        return self._dg.pipelines.history(self.id, state=state, limit=limit, cursor=cursor)

    def pause(self) -> Pipeline:
        """Let no due time come any more."""
        return self._dg.pipelines.pause(self.id)

    def resume(self) -> Pipeline:
        """Let due times come again."""
        return self._dg.pipelines.resume(self.id)

    def remove(self) -> None:
        """Remove it with its history. Raises Conflict while it runs."""
        self._dg.pipelines.remove(self.id)


class Run(Connected, schemas.Run):
    """A run of a pipeline, as `Client.runs` gives it."""

    def refresh(self) -> Run:
        """The run as it is now. Raises NotFound."""
        return self._dg.runs.get(self.id)

    def wait(self, progress: Told[Run] = None, *, timeout: float | None = None) -> Run:
        """See `Client.runs.wait`."""
        return self._dg.runs.wait(self.id, progress, timeout=timeout)

    def cancel(self) -> Run:
        """Stop it and the step that it is at. Raises Conflict when it has ended."""
        return self._dg.runs.cancel(self.id)
