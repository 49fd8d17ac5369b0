"""`Client.pipelines` and `Client.runs`: recipes that are run again and again, and their runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from datagen.client.resources import Pipeline, Run
from datagen.client.transport import Transport, quoted
from datagen.client.waiting import Told, wait_for
from datagen.errors import NotFound
from datagen.recipes import read_recipe
from datagen.schemas import DryRun, DueTimes, Page, PipelineApply, State, Validated

Recipe = Mapping[str, Any] | PipelineApply | Path | str


class Pipelines:
    """Apply, check, list, run, pause, resume and remove pipelines."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def apply(self, recipe: Recipe) -> Pipeline:
        """Keep a recipe under its name; another one of that name is its next version.

        Args:
            recipe: a mapping such as `{"name": "nightly", "source": {"dataset": "defects"}, …}`, or
                the path of a YAML or JSON file with one.

        Raises:
            InvalidRequest: a recipe that no run could follow; `field` names what is wrong.
            MalformedRequest: a file that cannot be read as one.
            NotFound: there is no such file, or no such webhook.
        """
        return self._transport.post("/v1/pipelines", Pipeline, _body(recipe))

    def validate(self, recipe: Recipe) -> Validated:
        """What `apply` would say, the next five due times, and what is missing by now."""
        return self._transport.post("/v1/pipelines/validate", Validated, _body(recipe))

    def get(self, reference: UUID | str) -> Pipeline:
        """A pipeline by name or id. Raises NotFound."""
        return self._transport.get(f"/v1/pipelines/{quoted(reference)}", Pipeline)

    def list(self, *, limit: int = 50, cursor: str | None = None) -> Page[Pipeline]:
        """One page of pipelines, newest first."""
        return self._transport.get("/v1/pipelines", Page[Pipeline], limit=limit, cursor=cursor)

    def pause(self, reference: UUID | str) -> Pipeline:
        """Let no due time come; it can still be run by hand. Raises NotFound."""
        return self._transport.post(f"/v1/pipelines/{quoted(reference)}/pause", Pipeline)

    def resume(self, reference: UUID | str) -> Pipeline:
        """Let due times come again; those between are not caught up. Raises NotFound."""
        return self._transport.post(f"/v1/pipelines/{quoted(reference)}/resume", Pipeline)

    def next(self, reference: UUID | str) -> DueTimes:
        """The next five due times. Raises NotFound."""
        return self._transport.get(f"/v1/pipelines/{quoted(reference)}/next", DueTimes)

    def dry_run(self, reference: UUID | str) -> DryRun:
        """Images of each class before and after a run; makes nothing.

        Raises:
            NotFound: there is no such pipeline, or its dataset is not there.
            InvalidRequest: a plan that the run would fail at.
        """
        return self._transport.post(f"/v1/pipelines/{quoted(reference)}/dry-run", DryRun)

    def run(self, reference: UUID | str) -> Run:
        """Run it now; answers at once, and `wait` follows it.

        Raises:
            NotFound: there is no such pipeline.
            Conflict: a run of it goes on, and the recipe does not say what then.
        """
        return self._transport.post(f"/v1/pipelines/{quoted(reference)}/runs", Run)

    def history(
        self,
        reference: UUID | str,
        *,
        state: State | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Run]:
        """One page of its runs, newest first. Raises NotFound."""
        path = f"/v1/pipelines/{quoted(reference)}/runs"
        return self._transport.get(path, Page[Run], state=state, limit=limit, cursor=cursor)

    def remove(self, reference: UUID | str) -> None:
        """Remove it with its history; what it has made stays. Raises Conflict while it runs."""
        self._transport.delete(f"/v1/pipelines/{quoted(reference)}")


class Runs:
    """Read, follow and cancel runs."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, run_id: UUID | str) -> Run:
        """The run as it is now. Raises NotFound."""
        return self._transport.get(f"/v1/runs/{quoted(run_id)}", Run)

    def cancel(self, run_id: UUID | str) -> Run:
        """Stop it and the step that it is at. Raises Conflict when it has ended."""
        return self._transport.post(f"/v1/runs/{quoted(run_id)}/cancel", Run)

    def wait(
        self, run_id: UUID | str, progress: Told[Run] = None, *, timeout: float | None = None
    ) -> Run:
        """The run once it has ended, in whatever state.

        Raises:
            TimeoutError: not ended within `timeout` seconds.
        """
        return wait_for(lambda: self.get(run_id), progress, timeout)


def _body(recipe: Recipe) -> dict[str, Any]:
    if isinstance(recipe, PipelineApply):
        return recipe.model_dump(mode="json", exclude_unset=True)
    if isinstance(recipe, Mapping):
        return dict(recipe)
    try:
        data = Path(recipe).read_bytes()
    except OSError as error:
        raise NotFound(f"{recipe} cannot be read: {error.strerror or error}.") from None
    return read_recipe(data)
