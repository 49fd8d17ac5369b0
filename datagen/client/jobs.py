"""`Client.jobs`: requests for images and the samples that came of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from datagen.client.transport import Transport, quoted
from datagen.client.waiting import wait_for
from datagen.schemas import Gate, Job, Page, Sample, Sampler, State

SAMPLES_PER_PAGE = 1000


class Jobs:
    """Create, follow and cancel jobs; read their samples."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        model: str = "mnist",
        labels: Mapping[str, int] | None = None,
        *,
        per_label: int | None = None,
        count: int | None = None,
        seed: int | None = None,
        temperature: float | None = None,
        sampler: Sampler | Literal["recommended"] = "recommended",
        truncation: float | None = None,
        gate: Gate | Mapping[str, Any] | Literal["recommended"] | None = "recommended",
        exports: Sequence[str] = (),
    ) -> Job:
        """Ask for images; answers at once, while workers do the work.

        Args:
            model: name, name@version or id.
            labels: how many of each, by label name, such as `{"3": 500, "8": 200}`.
            per_label: instead of `labels`, this many of every label.
            count: instead of both, this many of a model that knows no labels; the judge gives them.
            seed: the same request with the same seed gives the same bytes; drawn if None.
            temperature: scales the latents; below 1 is safer and less varied.
            sampler: `prior`, `density`, `neighbour` or `interpolate`; by default the one that the
                model's training found best, of those that you may use.
            truncation: keeps the latents' normals within this distance of 0.
            gate: what an image must pass, such as `{"min_score": 0.9}`; what does not is drawn
                again. `{}` takes the defaults of `datagen.schemas.Gate`, None takes every image; by
                default it is what the model's training recommends.
            exports: formats to export as soon as the job has succeeded.

        Raises:
            InvalidRequest: a value cannot be used; `field` names it.
            NotFound: there is no such model.
        """
        wanted: dict[str, Any] = {
            "model": model,
            "labels": None if labels is None else dict(labels),
            "all": per_label,
            "count": count,
            "seed": seed,
            "temperature": temperature,
            "sampler": sampler,
            "truncation": truncation,
            "exports": list(exports) or None,
        }
        body = {name: value for name, value in wanted.items() if value is not None}
        if gate != "recommended":
            # None says something here: that every image is taken.
            body["gate"] = gate.model_dump() if isinstance(gate, Gate) else gate
        return self._transport.post("/v1/jobs", Job, body)

    def get(self, job_id: UUID | str) -> Job:
        """The job as it is now. Raises NotFound."""
        return self._transport.get(f"/v1/jobs/{quoted(job_id)}", Job)

    def list(
        self, *, state: State | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[Job]:
        """One page of jobs, newest first; `cursor` is the page before's `next_cursor`."""
        return self._transport.get("/v1/jobs", Page[Job], state=state, limit=limit, cursor=cursor)

    def cancel(self, job_id: UUID | str) -> Job:
        """Stop the job; what is stored stays. Raises Conflict when it has ended."""
        return self._transport.post(f"/v1/jobs/{quoted(job_id)}/cancel", Job)

    def wait(
        self,
        job_id: UUID | str,
        progress: Callable[[Job], None] | None = None,
        *,
        timeout: float | None = None,
    ) -> Job:
        """The job once it has ended, in whatever state.

        Raises:
            TimeoutError: not ended within `timeout` seconds.
        """
        return wait_for(lambda: self.get(job_id), progress, timeout)

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
