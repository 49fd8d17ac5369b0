"""`Client.datasets`: real labelled images, packed here and sent to the server."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from datagen.client.torchvision_source import TORCHVISION, download
from datagen.client.transfer import in_chunks
from datagen.client.transport import Transport, quoted
from datagen.schemas import Dataset, DatasetInspection, Page

SAMPLE_SOURCE = "sample:mnist"
# What is no path of this machine: a scheme of more than a letter, and two slashes.
URL = re.compile(r"^[a-z][a-z0-9+.-]+://")


def is_remote(source: str) -> bool:
    """Whether the server reads a source itself."""
    return source == SAMPLE_SOURCE or (
        URL.match(source) is not None and not source.startswith(TORCHVISION)
    )


def inspect_here(
    source: str, *, split: Mapping[str, float] | None = None, **options: Any
) -> DatasetInspection:
    """What a source of this machine holds, without a server; see `Datasets.inspect`."""
    # NumPy and PyArrow take longer to load than all else here.
    from datagen.datasets.opening import open_dataset  # noqa: PLC0415
    from datagen.datasets.reading import DEFAULT_SHARES, ReadOptions  # noqa: PLC0415

    wanted = ReadOptions(shares=split or DEFAULT_SHARES, **options)
    with tempfile.TemporaryDirectory(prefix="datagen-inspect-") as folder:
        scratch, packed = Path(folder, "scratch"), Path(folder, "dataset")
        scratch.mkdir()
        _pack(source, packed)
        return DatasetInspection.model_validate(open_dataset(packed, wanted, scratch).summary())


def _pack(source: str, packed: Path) -> None:
    """Write what is sent for a source of this machine."""
    from datagen.datasets.packing import pack  # noqa: PLC0415 - as above

    if source.startswith(TORCHVISION):
        download(source.removeprefix(TORCHVISION), packed)
    else:
        pack(Path(source), packed)


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
        size: int | None = None,
        pad: bool = False,
        on_error: Literal["fail", "skip"] = "fail",
        split: Mapping[str, float] | None = None,
        seed: int = 0,
        license: str | None = None,  # noqa: A002 - the word that hubs have for it
        zip_encoding: str | None = None,
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
            size: side in pixels that every image is brought to.
            pad: keep the proportions, and fill up the edges.
            on_error: whether a file that cannot be read refuses all, or is left out and listed.
            split: shares of train, validation and test, where the data come with no splits.
            seed: which images go into which split.
            license: under which exports of the images are by default, such as `cc-by-4.0`.
            zip_encoding: of the names in a zip that does not say that they are UTF-8, such as
                `cp932`.

        Raises:
            InvalidFile: files that cannot be read, or images that do not fit together.
            InvalidRequest: a source or value that cannot be used.
            TooLarge: more bytes than the server takes.
        """
        text = str(source)
        if is_remote(text):
            body = {
                "name": name,
                "source": text,
                "size": size,
                "pad": pad,
                "on_error": on_error,
                "split": None if split is None else dict(split),
                "seed": seed,
                "license": license,
                "zip_encoding": zip_encoding,
            }
            return self._transport.post("/v1/datasets", Dataset, body, patient=True)
        with tempfile.TemporaryDirectory(prefix="datagen-pack-") as folder:
            packed = Path(folder, "dataset")
            _pack(text, packed)
            shares = None if split is None else ",".join(f"{k}={v:g}" for k, v in split.items())
            length = packed.stat().st_size
            with packed.open("rb") as file:
                return self._transport.upload(
                    "/v1/datasets",
                    Dataset,
                    in_chunks(file, length, progress),
                    length,
                    name=name,
                    size=size,
                    pad=str(pad).lower(),
                    on_error=on_error,
                    split=shares,
                    seed=seed,
                    license=license,
                    zip_encoding=zip_encoding,
                )

    def inspect(
        self,
        source: Path | str,
        *,
        size: int | None = None,
        pad: bool = False,
        on_error: Literal["fail", "skip"] = "fail",
        split: Mapping[str, float] | None = None,
        seed: int = 0,
        zip_encoding: str | None = None,
    ) -> DatasetInspection:
        """What `add` would register: layout, classes, splits, counts and notes.

        What lies on this machine is read here, by the code that the server reads it with; the
        server is asked only about what it reads itself. Arguments and errors are those of `add`.
        """
        text = str(source)
        if is_remote(text):
            body = {
                "name": "inspected",
                "source": text,
                "size": size,
                "pad": pad,
                "on_error": on_error,
                "split": None if split is None else dict(split),
                "seed": seed,
                "zip_encoding": zip_encoding,
            }
            return self._transport.post(
                "/v1/datasets?dry_run=true", DatasetInspection, body, patient=True
            )
        return inspect_here(
            text,
            size=size,
            pad=pad,
            on_error=on_error,
            split=split,
            seed=seed,
            zip_encoding=zip_encoding,
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
