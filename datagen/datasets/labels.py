"""Which class a label means: text, bytes and numbers, whatever format holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np

# Floats tell whole numbers apart below this, and no further.
_EXACT = 2**53


def label_of(value: object, names: Sequence[str] | None) -> str | None:
    """The name of the class that a label means; None where the label says that the image has none.

    Text is the name itself, bytes are text in UTF-8, and a whole number, whichever type holds it,
    is the place of a name or, where no names came with the data, the name: 3, 3.0 and `True` are
    3, 3 and 1. With names, -1 means that there is no label, as in the `datasets` library.

    Args:
        value: of a column, an array or a JSON document.
        names: of the classes by number, where the data has them.

    Raises:
        ValueError: anything else; the message goes on where a sentence names the place: "is a
            list".
    """
    value = _plain(value)
    if value is None:
        return None
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("is empty text")
        return value
    number = _whole(value)
    if names is None:
        return str(number)
    if number == -1:
        return None
    if not 0 <= number < len(names):
        raise ValueError(f"is {number}, and {len(names):,} classes are named")
    return names[number]


def _plain(value: object) -> object:
    """The same as one of Python's own types, and bytes as text."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.generic) and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise ValueError("is no UTF-8 text") from None
    return value


def _whole(value: object) -> int:
    if isinstance(value, int):
        return int(value)
    if not isinstance(value, (float, Decimal)):
        # No TypeError: whoever asks turns all of these into a sentence.
        raise ValueError(f"is {_kind(value)}")  # noqa: TRY004
    if math.isnan(value):
        raise ValueError("is not a number (NaN)")
    if math.isinf(value) or value != int(value):
        raise ValueError(f"is {value}, not a whole number")
    if not -_EXACT < value < _EXACT:
        raise ValueError(f"is {value}, which is too large to be the number of a class")
    return int(value)


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "an object with fields"
    if isinstance(value, (Sequence, set, np.ndarray)):
        return "a list"
    return f"of the type {type(value).__name__}"
