"""Members of a tar, with names, sizes and nothing else that could differ: POSIX ustar and pax.

Python's `tarfile` takes forty times as long a member, most of it for what is the same in all.
"""

from __future__ import annotations

BLOCK = 512
# Two empty blocks.
END = bytes(2 * BLOCK)
_NAME_BYTES = 100
_LARGEST = 8**11 - 1
# Mode, user and group; then size; the time; the checksum; the type; the link's name, the magic, the
# names of user and group, two device numbers, and the prefix.
_MODE = b"0000644\0" + b"0000000\0" * 2
_TIME = b"00000000000\0"
_AFTER_TYPE = bytes(_NAME_BYTES) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2
_AFTER_TYPE = _AFTER_TYPE.ljust(BLOCK - 157, b"\0")
_FIXED_SUM = sum(_MODE) + sum(_TIME) + sum(b" " * 8) + sum(_AFTER_TYPE)


def header(name: str, size: int) -> bytes:
    """What stands before a member's bytes; a long name or a large file takes a pax header first."""
    encoded = name.encode()
    records = b""
    if len(encoded) > _NAME_BYTES or not name.isascii():
        records += _record(b"path", encoded)
    if size > _LARGEST:
        records += _record(b"size", b"%d" % size)
    extended = b""
    if records:
        extended = _block(b"././@PaxHeader", len(records), b"x") + records + padding(len(records))
    return extended + _block(encoded[:_NAME_BYTES], min(size, _LARGEST), b"0")


def padding(size: int) -> bytes:
    """What stands after a member's bytes."""
    return bytes(-size % BLOCK)


def member(name: str, data: bytes) -> tuple[bytes, bytes, bytes]:
    """A whole member in three pieces."""
    return header(name, len(data)), data, padding(len(data))


def _record(key: bytes, value: bytes) -> bytes:
    """A line of a pax header, which begins with its own length."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _block(name: bytes, size: int, kind: bytes) -> bytes:
    length = b"%011o\0" % size
    # The sum of all bytes of the block, blanks standing in its own place.
    total = _FIXED_SUM + sum(name) + sum(length) + kind[0]
    return b"%b%b%b%b%06o\0 %b%b" % (
        name.ljust(_NAME_BYTES, b"\0"), _MODE, length, _TIME, total, kind, _AFTER_TYPE
    )  # fmt: skip
