"""`Client.models`: trained generators, and training new ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from datagen.client.transport import Transport, quoted
from datagen.client.waiting import wait_for
from datagen.schemas import Model, Page


class Models:
    """Train, follow and list models."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, dataset: str, **options: Any) -> Model:
        """Train a generator and its judge on a dataset; answers at once.

        Args:
            name: the model's name; a name that is there already gets the next version.
            dataset: name, name@version or id.
            options: fields of `schemas.TrainingOptionsIn`, such as `epochs=10`.

        Raises:
            InvalidRequest: a value cannot be used; `field` names it.
            NotFound: there is no such dataset.
        """
        body = {"name": name, "dataset": dataset, "options": options}
        return self._transport.post("/v1/models", Model, body)

    def get(self, reference: UUID | str) -> Model:
        """A model by name (its latest version), name@version or id. Raises NotFound."""
        return self._transport.get(f"/v1/models/{quoted(reference)}", Model)

    def list(self, *, limit: int = 50, cursor: str | None = None) -> Page[Model]:
        """One page of your own and the public models, newest first."""
        return self._transport.get("/v1/models", Page[Model], limit=limit, cursor=cursor)

    def cancel(self, reference: UUID | str) -> Model:
        """Stop a training. Raises Conflict when it has ended."""
        return self._transport.post(f"/v1/models/{quoted(reference)}/cancel", Model)

    def wait(
        self,
        reference: UUID | str,
        progress: Callable[[Model], None] | None = None,
        *,
        timeout: float | None = None,
    ) -> Model:
        """The model once its training has ended, in whatever state.

        Raises:
            TimeoutError: not ended within `timeout` seconds.
        """
        return wait_for(lambda: self.get(reference), progress, timeout)
