"""`Client.datasets`: real labelled images, packed here and sent to the server."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Unpack
from uuid import UUID

from datagen.client.options import ReadingOptions
from datagen.client.torchvision_source import TORCHVISION, download
from datagen.client.transfer import in_chunks
from datagen.client.transport import Transport, quoted
from datagen.schemas import Dataset, DatasetInspection, Page
from datagen.scratch import scratch

SAMPLE_SOURCE = "sample:mnist"
# What is no path of this machine: a scheme of more than a letter, and two slashes.
URL = re.compile(r"^[a-z][a-z0-9+.-]+://")


def is_remote(source: str) -> bool:
    """Whether the server reads a source itself."""
    return source == SAMPLE_SOURCE or (
        URL.match(source) is not None and not source.startswith(TORCHVISION)
    )


def inspect_here(source: str, **options: Unpack[ReadingOptions]) -> DatasetInspection:
    """What a source of this machine holds, without a server; see `Datasets.inspect`."""
    # NumPy and PyArrow take longer to load than all else here.
    from datagen.datasets.opening import open_dataset  # noqa: PLC0415
    from datagen.datasets.reading import DEFAULT_SHARES, ReadOptions  # noqa: PLC0415

    others: dict[str, Any] = {**options}
    shares = others.pop("split", None) or DEFAULT_SHARES
    wanted = ReadOptions(shares=shares, **others)
    with scratch("inspect") as folder:
        work, packed = folder / "work", folder / "dataset"
        work.mkdir()
        _pack(source, packed)
        return DatasetInspection.model_validate(open_dataset(packed, wanted, work).summary())


def _pack(source: str, packed: Path) -> None:
    """Write what is sent for a source of this machine."""
    from datagen.datasets.packing import pack  # noqa: PLC0415 - as above

    if source.startswith(TORCHVISION):
        download(source.removeprefix(TORCHVISION), packed)
    else:
        pack(Path(source), packed)


def _in_query(options: ReadingOptions) -> dict[str, Any]:
    """Options as the query of an upload says them."""
    query: dict[str, Any] = {**options}
    if options.get("split") is not None:
        query["split"] = ",".join(f"{name}={share:g}" for name, share in query["split"].items())
    if "pad" in options:
        query["pad"] = str(options["pad"]).lower()
    return query


class Datasets:
    """Add, list and remove datasets."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def add(
        self,
        name: str,
        source: Path | str,
        progress: Callable[[int, int], None] | None = None,
        *,
        license: str | None = None,  # noqa: A002 - the word that hubs have for it
        **options: Unpack[ReadingOptions],
    ) -> Dataset:
        """Register labelled images under a name.

        The server never reads a path of this machine: files are sent. The same images again under
        the same name give the same dataset; others become its next version.

        Args:
            name: the dataset's name.
            source: a folder with class folders, IDX files, Parquet files, WebDataset tars, or
                pictures and a CSV or JSONL table; such a table; a zip, tar, NPZ or Parquet file;
                `sample:mnist`; `torchvision:FashionMNIST`, which is downloaded here; or a URL that
                the server may read.
            progress: told the bytes that were sent and the bytes of the whole.
            license: under which exports of the images are by default, such as `cc-by-4.0`.
            options: see `ReadingOptions`.

        Raises:
            InvalidFile: files that cannot be read, or images that do not fit together.
            InvalidRequest: a source or value that cannot be used.
            TooLarge: more bytes than the server takes.
        """
        text = str(source)
        if is_remote(text):
            body = {"name": name, "source": text, "license": license, **options}
            return self._transport.post("/v1/datasets", Dataset, body, patient=True)
        with scratch("pack") as folder:
            packed = folder / "dataset"
            _pack(text, packed)
            length = packed.stat().st_size
            with packed.open("rb") as file:
                return self._transport.upload(
                    "/v1/datasets",
                    Dataset,
                    in_chunks(file, length, progress),
                    length,
                    name=name,
                    license=license,
                    **_in_query(options),
                )

    def inspect(self, source: Path | str, **options: Unpack[ReadingOptions]) -> DatasetInspection:
        """What `add` would register: layout, classes, splits, counts and notes.

        What lies on this machine is read here, by the code that the server reads it with; the
        server is asked only about what it reads itself. Errors are those of `add`.

        Args:
            source: as for `add`.
            options: see `ReadingOptions`.
        """
        text = str(source)
        if not is_remote(text):
            return inspect_here(text, **options)
        return self._transport.post(
            "/v1/datasets?dry_run=true",
            DatasetInspection,
            {"source": text, **options},
            patient=True,
        )

    def remove(self, reference: UUID | str, *, force: bool = False) -> None:
        """Remove a dataset; a name with several versions must say which.

        Args:
            reference: name, name@version or id.
            force: although models were trained on it: they stay, its images go.

        Raises:
            NotFound: there is none such.
            Conflict: models refer to it, or a training is still to read it.
        """
        self._transport.delete(f"/v1/datasets/{quoted(reference)}", force=str(force).lower())

    def balance(self, reference: UUID | str, kind: Literal["png", "svg"] = "png") -> bytes:
        """The class balance as a picture."""
        return self._transport.get_bytes(f"/v1/datasets/{quoted(reference)}/balance.{kind}")

    def get(self, reference: UUID | str) -> Dataset:
        """A dataset by name (its latest version), name@version or id. Raises NotFound."""
        return self._transport.get(f"/v1/datasets/{quoted(reference)}", Dataset)

    def list(self, *, limit: int = 50, cursor: str | None = None) -> Page[Dataset]:
        """One page of datasets, newest first."""
        return self._transport.get("/v1/datasets", Page[Dataset], limit=limit, cursor=cursor)
