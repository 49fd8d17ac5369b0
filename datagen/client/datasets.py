"""`Client.datasets`: real labelled images, packed here and sent to the server."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from datagen.client.transport import Transport, quoted
from datagen.datasets.packing import pack
from datagen.schemas import Dataset, Page

CHUNK_BYTES = 1 << 20


class Datasets:
    """Upload and list datasets."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def add(
        self,
        name: str,
        source: Path | str,
        progress: Callable[[int, int], None] | None = None,
    ) -> Dataset:
        """Pack a folder of labelled images and register it under a name.

        The server never reads a path of this machine: the images are sent. The same images again
        under the same name give the same dataset; others become its next version.

        Args:
            name: the dataset's name.
            source: an ImageFolder tree, or a folder with MNIST IDX files, gzipped or not.
            progress: told the bytes that were sent and the bytes of the whole.

        Raises:
            InvalidFile: a file that cannot be read, or images that do not fit together.
            TooLarge: more bytes than the server takes.
        """
        with tempfile.TemporaryDirectory(prefix="datagen-pack-") as folder:
            archive = Path(folder, "dataset.tar")
            pack(Path(source), archive)
            size = archive.stat().st_size
            with archive.open("rb") as file:
                return self._transport.upload(
                    "/v1/datasets", Dataset, _chunks(file, size, progress), size, name=name
                )

    def get(self, reference: UUID | str) -> Dataset:
        """A dataset by name (its latest version), name@version or id. Raises NotFound."""
        return self._transport.get(f"/v1/datasets/{quoted(reference)}", Dataset)

    def list(self, *, limit: int = 50, cursor: str | None = None) -> Page[Dataset]:
        """One page of datasets, newest first."""
        return self._transport.get("/v1/datasets", Page[Dataset], limit=limit, cursor=cursor)


def _chunks(
    file: BinaryIO, size: int, progress: Callable[[int, int], None] | None
) -> Iterator[bytes]:
    sent = 0
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
        sent += len(chunk)
        if progress is not None:
            progress(sent, size)
