"""`Client.reports`: what labelled images are worth."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from datagen.client.resources import Report
from datagen.client.transport import Transport, quoted
from datagen.client.waiting import Told, wait_for
from datagen.schemas import Page


class Reports:
    """Have images measured, follow that, and fetch what was found."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        job: UUID | str | None = None,
        model: UUID | str | None = None,
        real: UUID | str | None = None,
        quick: bool = False,
        images: int | None = None,
    ) -> Report:
        """Have the images of a job, or of a model, measured; answers at once.

        Args:
            job: a job that has ended.
            model: instead of it, name, name@version or id of a model.
            real: a dataset of yours to measure by; what the model was trained on if None.
            quick: minutes instead of an hour.
            images: look at so many of them at most.

        Raises:
            NotFound: there is no such job, model or dataset.
            Conflict: the job has not ended, or the model's training has not succeeded.
            InvalidRequest: no images, or real ones that do not fit.
        """
        wanted = {"job": job, "model": model, "real": real, "images": images}
        body: dict[str, Any] = {
            name: value if isinstance(value, int) else str(value)
            for name, value in wanted.items()
            if value is not None
        }
        return self._transport.post("/v1/reports", Report, body | {"quick": quick})

    def get(self, report_id: UUID | str) -> Report:
        """The report's state as it is now. Raises NotFound."""
        return self._transport.get(f"/v1/reports/{quoted(report_id)}", Report)

    def list(
        self, *, job_id: UUID | str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[Report]:
        """One page of reports, newest first; of one job, if it is given."""
        job = None if job_id is None else str(job_id)
        return self._transport.get("/v1/reports", Page[Report], job=job, limit=limit, cursor=cursor)

    def wait(
        self,
        report_id: UUID | str,
        progress: Told[Report] = None,
        *,
        timeout: float | None = None,
    ) -> Report:
        """The report once it has ended, in whatever state.

        Raises:
            TimeoutError: not ended within `timeout` seconds.
        """
        return wait_for(lambda: self.get(report_id), progress, timeout)

    def cancel(self, report_id: UUID | str) -> Report:
        """Stop it. Raises Conflict when it has ended."""
        return self._transport.post(f"/v1/reports/{quoted(report_id)}/cancel", Report)

    def remove(self, report_id: UUID | str) -> None:
        """Remove one that has ended. Raises Conflict while it runs."""
        self._transport.delete(f"/v1/reports/{quoted(report_id)}")

    def fetch(self, report_id: UUID | str, name: str = "report.json") -> bytes:
        """`report.json` or `report.html`. Raises Conflict while it is not there."""
        return self._transport.get_bytes(f"/v1/reports/{quoted(report_id)}/files/{quoted(name)}")
