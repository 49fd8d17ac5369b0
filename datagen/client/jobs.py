"""`Client.jobs`: requests for images and the samples that came of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, Unpack
from uuid import UUID

from datagen.client.following import follow
from datagen.client.options import JobOptions, refuse_unknown
from datagen.client.resources import Job
from datagen.client.transport import Transport, quoted
from datagen.client.waiting import Told, wait_for
from datagen.schemas import Balance, Gate, JobPlan, Page, Sample, State

SAMPLES_PER_PAGE = 1000


_PLANS = ("per_label", "count", "balance")


def _wanted(labels: Mapping[str, int] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Labels and counts as the API takes them."""
    balance = options.get("balance")
    wanted = {
        "labels": None if labels is None else dict(labels),
        "all": options.get("per_label"),
        "count": options.get("count"),
        "balance": balance.model_dump() if isinstance(balance, Balance) else balance,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _body(
    model: str, labels: Mapping[str, int] | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    refuse_unknown(options, JobOptions)
    rest = {
        name: value
        for name, value in options.items()
        if name not in {*_PLANS, "gate"} and value is not None
    }
    if "webhook" in rest:
        rest["webhook"] = str(rest["webhook"])
    gate = options.get("gate", "recommended")
    if gate != "recommended":
        # None says something here: that every image is taken.
        rest["gate"] = gate.model_dump() if isinstance(gate, Gate) else gate
    return {"model": model, **_wanted(labels, options), **rest}


class Jobs:
    """Create, follow, change and remove jobs; read their samples."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        model: str = "mnist",
        labels: Mapping[str, int] | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Ask for images; answers at once, while workers do the work.

        Args:
            model: name, name@version or id.
            labels: how many of each, by the label's name or index, such as `{"3": 500, "8": 200}`.
            options: see `datagen.client.options.JobOptions`; `per_label`, `count` and `balance`
                stand in place of labels.

        Raises:
            InvalidRequest: a value cannot be used; `field` names it.
            NotFound: there is no such model or dataset.
        """
        return self._transport.post("/v1/jobs", Job, _body(model, labels, options))

    def plan(
        self,
        model: str = "mnist",
        labels: Mapping[str, int] | None = None,
        **options: Unpack[JobOptions],
    ) -> JobPlan:
        """What a job would do, and about how long it would take; nothing is made.

        Takes what `create` takes, and raises what it raises.
        """
        body = _body(model, labels, options)
        return self._transport.post("/v1/jobs?dry_run=true", JobPlan, body)

    def extend(
        self,
        job_id: UUID | str,
        labels: Mapping[str, int] | None = None,
        *,
        per_label: int | None = None,
        count: int | None = None,
        balance: Balance | Mapping[str, Any] | None = None,
    ) -> Job:
        """Ask a job for more images: the next indices, by the same seed, sampler and gate.

        Raises:
            InvalidRequest: a value cannot be used; `field` names it.
            NotFound: there is no such job.
            Conflict: it failed or was cancelled, or an export of it is being written.
        """
        body = _wanted(labels, {"per_label": per_label, "count": count, "balance": balance})
        return self._transport.post(f"/v1/jobs/{quoted(job_id)}/extend", Job, body)

    def retry(self, job_id: UUID | str) -> Job:
        """Have a job that failed or was cancelled go on where it ended.

        Raises:
            NotFound: there is no such job.
            Conflict: it goes on, has succeeded, or would fail at its gate again.
        """
        return self._transport.post(f"/v1/jobs/{quoted(job_id)}/retry", Job)

    def remove(self, job_id: UUID | str, *, force: bool = False) -> None:
        """Take an ended job away for good, with its images; exports of it stay.

        Raises:
            NotFound: there is no such job.
            Conflict: it goes on, or exports or reports name it and `force` is not set.
        """
        self._transport.delete(f"/v1/jobs/{quoted(job_id)}", force="true" if force else None)

    def get(self, job_id: UUID | str) -> Job:
        """The job as it is now. Raises NotFound."""
        return self._transport.get(f"/v1/jobs/{quoted(job_id)}", Job)

    def list(
        self,
        *,
        state: State | None = None,
        model: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        sort: Literal["-created_at", "created_at"] = "-created_at",
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Job]:
        """One page of jobs, newest first; `cursor` is the page before's `next_cursor`.

        Args:
            state: only jobs in it.
            model: only jobs of this name, name@version or id.
            created_after: only jobs from this moment on; it has a zone.
            created_before: only jobs before this moment.
            sort: `created_at` gives the oldest first.
            limit: jobs on a page.
            cursor: where the page begins.
        """
        return self._transport.get(
            "/v1/jobs",
            Page[Job],
            state=state,
            model=model,
            created_after=None if created_after is None else created_after.isoformat(),
            created_before=None if created_before is None else created_before.isoformat(),
            sort=sort,
            limit=limit,
            cursor=cursor,
        )

    def cancel(self, job_id: UUID | str) -> Job:
        """Stop the job; what is stored stays. Raises Conflict when it has ended."""
        return self._transport.post(f"/v1/jobs/{quoted(job_id)}/cancel", Job)

    def wait(
        self,
        job_id: UUID | str,
        progress: Told[Job] = None,
        *,
        timeout: float | None = None,
    ) -> Job:
        """The job once it has ended, in whatever state.

        Raises:
            TimeoutError: not ended within `timeout` seconds.
        """
        return wait_for(lambda: self.get(job_id), progress, timeout)

    def events(self, job_id: UUID | str) -> Iterator[Job]:
        """The job whenever it changes, until it has ended, the last time in its end state.

        Raises:
            NotFound: there is no such job, or it was removed meanwhile.
            Unavailable: the server was away for more than a minute.
        """
        return follow(self._transport, f"/v1/jobs/{quoted(job_id)}/events", Job)

    def samples(self, job_id: UUID | str, *, label: str | None = None) -> Iterator[Sample]:
        """All stored samples in the order of their index, fetched page by page."""
        cursor: str | None = None
        while True:
            page = self._transport.get(
                f"/v1/jobs/{quoted(job_id)}/samples",
                Page[Sample],
                label=label,
                limit=SAMPLES_PER_PAGE,
                cursor=cursor,
            )
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def sample(self, job_id: UUID | str, index: int) -> Sample:
        """One sample's metadata. Raises NotFound while it is not stored."""
        return self._transport.get(f"/v1/jobs/{quoted(job_id)}/samples/{index:d}", Sample)

    def image(self, job_id: UUID | str, index: int) -> bytes:
        """One sample's PNG. Raises NotFound while it is not stored."""
        return self._transport.get_bytes(f"/v1/jobs/{quoted(job_id)}/samples/{index:d}/image")
