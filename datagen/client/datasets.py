"""`Client.datasets`: real labelled images, packed here and sent to the server."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal
from uuid import UUID

from datagen.client.torchvision_source import TORCHVISION, download
from datagen.client.transfer import in_chunks
from datagen.client.transport import Transport, quoted
from datagen.schemas import Dataset, Page

SAMPLE_SOURCE = "sample:mnist"
# What is no path of this machine: a scheme of more than a letter, and two slashes.
URL = re.compile(r"^[a-z][a-z0-9+.-]+://")


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

        Raises:
            InvalidFile: files that cannot be read, or images that do not fit together.
            InvalidRequest: a source or value that cannot be used.
            TooLarge: more bytes than the server takes.
        """
        text = str(source)
        if text == SAMPLE_SOURCE or (URL.match(text) and not text.startswith(TORCHVISION)):
            body = {
                "name": name,
                "source": text,
                "size": size,
                "pad": pad,
                "on_error": on_error,
                "split": None if split is None else dict(split),
                "seed": seed,
                "license": license,
            }
            return self._transport.post("/v1/datasets", Dataset, body, patient=True)
        # NumPy and PyArrow take longer to load than all else here, and most clients add nothing.
        from datagen.datasets.packing import pack  # noqa: PLC0415

        with tempfile.TemporaryDirectory(prefix="datagen-pack-") as folder:
            packed = Path(folder, "dataset")
            if text.startswith(TORCHVISION):
                download(text.removeprefix(TORCHVISION), packed)
            else:
                pack(Path(source), packed)
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
