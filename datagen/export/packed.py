"""An export in the store: one zip, and a list of its files by which it is more than that.

The list is a Parquet file with a row a file: path, size, hashes, where its bytes begin in the zip,
and where its header would begin in a tar of the same files. So single files are read from the zip,
and a tar is made from it while it is sent: its length is known before its first byte is, and any
stretch of it can be made alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datagen.errors import InvalidFile
from datagen.export.measuring import Entry
from datagen.export.tar import END, header, padding

CHUNK_BYTES = 1 << 20
ROWS_AT_ONCE = 20_000
_TAR_BYTES = b"tar_bytes"
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("crc32", pa.int64()),
        ("offset", pa.int64()),
        ("tar", pa.int64()),
    ]
)


def write_files(entries: Iterable[Entry], file: BinaryIO) -> None:
    """Write the list of an archive's files, in their order in it."""
    waiting, tar = iter(entries), 0
    with pq.ParquetWriter(
        file, _SCHEMA, compression="zstd", write_statistics=["path", "tar"]
    ) as writer:
        while several := list(islice(waiting, ROWS_AT_ONCE)):
            tars = []
            for entry in several:
                tars.append(tar)
                tar += len(header(entry.path, entry.bytes)) + entry.bytes
                tar += len(padding(entry.bytes))
            columns = [[getattr(entry, name) for entry in several] for name in _SCHEMA.names[:-1]]
            writer.write_table(pa.table([*columns, tars], schema=_SCHEMA))
        writer.add_key_value_metadata({_TAR_BYTES.decode(): str(tar + len(END))})


class Packed:
    """The files of a stored export.

    Args:
        files: what `write_files` wrote; seekable.
        archive: the zip; seekable.

    Raises:
        InvalidFile: the list is damaged.
    """

    def __init__(self, files: BinaryIO, archive: BinaryIO) -> None:
        self._raw, self._archive = files, archive
        try:
            self._files = pq.ParquetFile(files)
            self.tar_bytes = int((self._files.metadata.metadata or {})[_TAR_BYTES])
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise InvalidFile(f"The list of the export's files is damaged: {error}.") from error

    def close(self) -> None:
        """Close both files."""
        self._raw.close()
        self._archive.close()

    def find(self, path: str) -> Entry | None:
        """The file of a path, if there is one."""
        for number in range(self._files.num_row_groups):
            if not self._within(number, "path", path):
                continue
            paths = self._files.read_row_group(number, columns=["path"])["path"]
            row = pc.index(paths, pa.scalar(path)).as_py()
            if row >= 0:
                table = self._files.read_row_group(number).slice(row, 1)
                return Entry(*(table[name][0].as_py() for name in Entry._fields))
        return None

    def _within(self, number: int, column: str, value: Any) -> bool:
        group = self._files.metadata.row_group(number)
        found = group.column(_SCHEMA.get_field_index(column)).statistics
        if found is None or not found.has_min_max:
            return True
        return bool(found.min <= value <= found.max)

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes `start` to `stop` - 1 of the zip, in pieces. Raises OSError where it ends."""
        self._archive.seek(start)
        left = stop - start
        while left:
            chunk = self._archive.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise OSError(f"The stored archive ends {left} bytes early.")
            left -= len(chunk)
            yield chunk

    def read_tar(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes `start` to `stop` - 1 of the tar, in pieces."""
        return _in_chunks(_cut(self._tar_from(start), start, stop))

    def _tar_from(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Pieces of the tar with the places where they begin, from before `start` on."""
        for entry, at in self._entries_from(start):
            head = header(entry.path, entry.bytes)
            yield at, head
            begin = at + len(head)
            # Of a large file that the stretch begins in, what lies before it is not read.
            skipped = min(max(0, start - begin), entry.bytes)
            place = begin + skipped
            for piece in self.read(entry.offset + skipped, entry.offset + entry.bytes):
                yield place, piece
                place += len(piece)
            yield begin + entry.bytes, padding(entry.bytes)
        yield self.tar_bytes - len(END), END

    def _entries_from(self, start: int) -> Iterator[tuple[Entry, int]]:
        """The files from that on whose stretch of the tar holds `start`."""
        groups = range(self._files.num_row_groups)
        column = _SCHEMA.get_field_index("tar")
        firsts = [
            self._files.metadata.row_group(number).column(column).statistics.min
            for number in groups
        ]
        first = max(0, bisect_right(firsts, start) - 1)
        for number in groups[first:]:
            table = self._files.read_row_group(number)
            tars = table["tar"].to_pylist()
            skip = max(0, bisect_right(tars, start) - 1) if number == first else 0
            columns = [table[name].slice(skip).to_pylist() for name in Entry._fields]
            yield from zip(map(Entry._make, zip(*columns, strict=True)), tars[skip:], strict=True)


def _cut(pieces: Iterator[tuple[int, bytes]], start: int, stop: int) -> Iterator[bytes]:
    for place, piece in pieces:
        if place >= stop:
            return
        if place + len(piece) > start:
            yield piece[max(0, start - place) : stop - place]


def _in_chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces that are worth sending."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
