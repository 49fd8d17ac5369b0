"""`Client.figures`: what models have learnt, as pictures and numbers."""

from __future__ import annotations

from uuid import UUID

from datagen.client.transport import Transport, quoted
from datagen.client.waiting import Told, wait_for
from datagen.schemas import Figures


class FigureSets:
    """Have figures drawn, follow that, and fetch them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, model: UUID | str, dataset: UUID | str | None = None) -> Figures:
        """Have a model's figures drawn; answers at once.

        Args:
            model: name, name@version or id.
            dataset: real images to show beside; what the model was trained on if None.

        Raises:
            NotFound: there is no such model or dataset.
            Conflict: the model's training has not succeeded.
            InvalidRequest: images of another shape or other classes than the model's.
        """
        body = {"dataset": None if dataset is None else str(dataset)}
        return self._transport.post(f"/v1/models/{quoted(model)}/figures", Figures, body)

    def get(self, model: UUID | str, dataset: UUID | str | None = None) -> Figures:
        """Which figures there are, and how far drawing them is. Raises as `create`."""
        return self._transport.get(f"/v1/models/{quoted(model)}/figures", Figures, dataset=dataset)

    def wait(
        self,
        model: UUID | str,
        dataset: UUID | str | None = None,
        progress: Told[Figures] = None,
        *,
        timeout: float | None = None,
    ) -> Figures:
        """The figures once they are drawn, or have failed.

        Raises:
            TimeoutError: not ended within `timeout` seconds.
        """
        return wait_for(lambda: self.get(model, dataset), progress, timeout)

    def fetch(self, model: UUID | str, name: str, dataset: UUID | str | None = None) -> bytes:
        """One file, such as `loss.png`, `loss.svg` or `loss.json`, once it is drawn."""
        path = f"/v1/models/{quoted(model)}/figures/{quoted(name)}"
        return self._transport.get_bytes(path, dataset=dataset)
