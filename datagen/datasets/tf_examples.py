"""`tf.train.Example`: a protocol buffer with named features, each a list of values.

The fields are those of tensorflow/core/example/example.proto and feature.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

# All values of one kind: bytes, int or float.
Feature = tuple[bytes, ...] | tuple[int, ...] | tuple[float, ...]

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_BYTES, _FLOATS, _INTEGERS = 1, 2, 3
# No example of an image comes near to this, and each takes far more memory than it has bytes.
MAX_VALUES = 100_000
_LONGEST_VARINT = 10


def features_of(payload: bytes) -> dict[str, Feature]:
    """The features of an example; of floats there is none to be read: each counts as 0.

    Raises:
        ValueError: the payload is no such message.
    """
    found: dict[str, Feature] = {}
    view = memoryview(payload)
    for message in _inner(view, 1):
        for entry in _inner(message, 1):
            name = b"".join(bytes(part) for part in _inner(entry, 1)).decode()
            for feature in _inner(entry, 2):
                found[name] = _values(feature)
    return found


def _values(feature: memoryview) -> Feature:
    for number, kind, value in _fields(feature):
        if kind != _LENGTH or not isinstance(value, memoryview):
            continue
        if number == _BYTES:
            return tuple(bytes(part) for part in _inner(value, 1))
        if number == _INTEGERS:
            return tuple(_integers(value))
        if number == _FLOATS:
            return tuple([0.0] * min(MAX_VALUES, len(value) // 4))
    return ()


def _integers(values: memoryview) -> Iterator[int]:
    """Whole numbers, packed into one field or each in its own."""
    count = 0
    for number, kind, value in _fields(values):
        if number != 1:
            continue
        if kind == _VARINT and isinstance(value, int):
            yield _signed(value)
            continue
        at = 0
        packed = value if isinstance(value, memoryview) else memoryview(b"")
        while at < len(packed) and count < MAX_VALUES:
            one, at = _varint(packed, at)
            yield _signed(one)
            count += 1


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _inner(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """What the fields of a number hold that have a length."""
    for number, kind, value in _fields(message):
        if number == wanted and kind == _LENGTH and isinstance(value, memoryview):
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Number, type and value of each field of a message."""
    at = count = 0
    while at < len(message):
        count += 1
        if count > MAX_VALUES:
            raise ValueError(f"it has more than {MAX_VALUES:,} fields")
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("a field has the number 0")
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, kind, value
            continue
        if kind == _LENGTH:
            length, at = _varint(message, at)
        elif kind in {_FIXED32, _FIXED64}:
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field has the type {kind}")
        if length > len(message) - at:
            raise ValueError("a field is longer than what it stands in")
        yield number, kind, message[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST_VARINT):
        if at >= len(data):
            raise ValueError("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:  # noqa: PLR2004 - the last byte
            return value & (1 << 64) - 1, at
    raise ValueError("a number is too long")
