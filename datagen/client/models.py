"""`Client.models`: trained generators, and training new ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack
from uuid import UUID

from datagen.client.options import PreviewOptions, refuse_unknown
from datagen.client.pictures import Pictures
from datagen.client.resources import Model
from datagen.client.transfer import in_chunks, save_file
from datagen.client.transport import Transport, quoted
from datagen.client.waiting import Told, wait_for
from datagen.errors import InvalidFile
from datagen.schemas import MOST_PREVIEWED, Comparison, Gate, Page, Preview, Visibility


class Models:
    """Train, follow, list, compare, move and remove models."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, /, name: str, dataset: str, *, from_model: UUID | str | None = None, **options: Any
    ) -> Model:
        """Train a generator and its judge on a dataset; answers at once.

        Args:
            name: the model's name; a name that is there already gets the next version.
            dataset: name, name@version or id.
            from_model: name, name@version or id of a trained model whose weights are the first
                ones; None starts from nothing.
            options: fields of `schemas.TrainingOptionsIn`, such as `epochs=10`.

        Raises:
            InvalidRequest: a value cannot be used; `field` names it.
            NotFound: there is no such dataset, or no such model.
            Conflict: the model to start from is not trained.
        """
        body: dict[str, Any] = {"name": name, "dataset": dataset, "options": options}
        if from_model is not None:
            body["from_model"] = str(from_model)
        return self._transport.post("/v1/models", Model, body)

    def get(self, reference: UUID | str) -> Model:
        """A model by name (its latest version), name@version or id. Raises NotFound."""
        return self._transport.get(f"/v1/models/{quoted(reference)}", Model)

    def list(self, *, limit: int = 50, cursor: str | None = None) -> Page[Model]:
        """One page of your own and the public models, newest first."""
        return self._transport.get("/v1/models", Page[Model], limit=limit, cursor=cursor)

    def compare(self, *references: UUID | str) -> Comparison:
        """Models side by side, figure by figure.

        Raises:
            InvalidRequest: fewer than two, or more than sixteen.
            NotFound: one of them is not there.
        """
        wanted = [str(reference) for reference in references]
        return self._transport.get("/v1/models/compare", Comparison, model=wanted)

    def preview(
        self,
        reference: UUID | str = "mnist",
        labels: Mapping[str, int] | None = None,
        **options: Unpack[PreviewOptions],
    ) -> Pictures:
        """Up to 64 images at once, of which nothing is kept; a notebook shows them.

        Args:
            reference: name, name@version or id.
            labels: how many of each, by the label's name or index; eight of every label if nothing
                else is said, or fewer where there are many.
            options: see `datagen.client.options.PreviewOptions`; the seed is 0 if it is not named.

        Raises:
            Unavailable: no worker answered.
            InvalidRequest: a value cannot be used, or more than 64 images.
            NotFound: there is no such model.
        """
        refuse_unknown(options, PreviewOptions)
        told: dict[str, Any] = {"seed": 0, "labels": None if labels is None else dict(labels)}
        told |= options
        told["all"] = told.pop("per_label", None)
        if labels is None and told["all"] is None and told.get("count") is None:
            told["all"] = max(1, min(8, MOST_PREVIEWED // len(self.get(reference).class_names)))
        if isinstance(gate := told.get("gate"), Gate):
            told["gate"] = gate.model_dump()
        path = f"/v1/models/{quoted(reference)}/preview"
        return Pictures(self._transport.post(path, Preview, told))

    def decode(
        self,
        reference: UUID | str,
        latents: Sequence[Sequence[float]] | None = None,
        labels: Sequence[str] | None = None,
        *,
        coordinates: Sequence[Sequence[float]] | None = None,
    ) -> Pictures:
        """The images of up to 64 latents, each with its label; nothing is kept.

        Args:
            reference: name, name@version or id.
            latents: as many numbers each as the model has latent dimensions.
            labels: one for each, by name or index; None for a model that knows no labels.
            coordinates: instead of latents, standard deviations from the label's mean along the
                directions in which latents differ most; 0 along those that are left out.

        Raises:
            Unavailable: no worker answered.
            InvalidRequest: latents of another length, or not one label for each.
            NotFound: there is no such model.
        """
        body: dict[str, Any] = {"labels": None if labels is None else list(labels)}
        for name, rows in (("latents", latents), ("coordinates", coordinates)):
            if rows is not None:
                body[name] = [list(map(float, row)) for row in rows]
        path = f"/v1/models/{quoted(reference)}/decode"
        return Pictures(self._transport.post(path, Preview, body))

    def export(
        self,
        reference: UUID | str,
        out: Path | str,
        progress: Callable[[int, int], None] | None = None,
        *,
        overwrite: bool = False,
    ) -> Path:
        """Write a model into one zip file, to be imported elsewhere.

        Args:
            reference: name, name@version or id.
            out: the file; it appears when it is whole.
            progress: told the bytes that came and the bytes of the whole.
            overwrite: replace a file that is there.

        Raises:
            Conflict: the file is there, or the training has not succeeded.
            NotFound: there is no such model.
            StorageFailure: the file cannot be written.
        """
        path = f"/v1/models/{quoted(reference)}/export"
        return save_file(self._transport, path, Path(out), progress, overwrite=overwrite)

    def import_(
        self,
        name: str,
        source: Path | str,
        progress: Callable[[int, int], None] | None = None,
    ) -> Model:
        """Register what `export` wrote, as the next version of a name.

        Args:
            name: what the model is called here.
            source: the zip file.
            progress: told the bytes that were sent and the bytes of the whole.

        Raises:
            InvalidFile: it is no such file, or one that was changed or damaged.
        """
        path = Path(source)
        try:
            length = path.stat().st_size
            file = path.open("rb")
        except OSError as error:
            raise InvalidFile(f"{path} cannot be read: {error.strerror}.") from error
        with file:
            chunks = in_chunks(file, length, progress)
            return self._transport.upload("/v1/models/import", Model, chunks, length, name=name)

    def remove(self, reference: UUID | str, *, force: bool = False) -> None:
        """Remove a model; a name with several versions must say which.

        Args:
            reference: name, name@version or id.
            force: although jobs have used it: they stay, its weights go.

        Raises:
            NotFound: there is none such.
            Conflict: jobs refer to it, or it is in training.
        """
        self._transport.delete(f"/v1/models/{quoted(reference)}", force=str(force).lower())

    def share(self, reference: UUID | str, visibility: Visibility = "public") -> Model:
        """Let every owner make images with a model, or with `private` no other one again.

        They see none of the images that it was trained on.

        Raises:
            NotFound: there is no such model.
            Forbidden: it is another owner's.
            Conflict: it is not trained, or its name is another owner's public model's.
        """
        path, body = f"/v1/models/{quoted(reference)}", {"visibility": visibility}
        return self._transport.patch(path, Model, body)

    def cancel(self, reference: UUID | str) -> Model:
        """Stop a training. Raises Conflict when it has ended."""
        return self._transport.post(f"/v1/models/{quoted(reference)}/cancel", Model)

    def wait(
        self,
        reference: UUID | str,
        progress: Told[Model] = None,
        *,
        timeout: float | None = None,
    ) -> Model:
        """The model once its training has ended, in whatever state.

        Raises:
            TimeoutError: not ended within `timeout` seconds.
        """
        return wait_for(lambda: self.get(reference), progress, timeout)
