"""What values mean: the one rule by which those of any type become grey values from 0 to 255.

A picture of 16 bits, or an array of numbers, does not say what its white is. The rule finds it for
the whole dataset, all splits together, from the type of the values and the greatest of them; so a
dark test split stays as dark as it is, beside the images that it belongs to.

- `bool`: 0 and 255.
- `uint8` and `int8`: as they are. Where no whole number of the dataset is above 1, white is 1.
- `uint16` and `int16`: white is the first of 255, 1023, 4095, 16383 and 65535 (32767 in `int16`)
  that no value is above: 8, 10, 12, 14 or 16 bits. Where no whole number of the dataset is above
  1, white is 1.
- Whole numbers of 32 and 64 bits: from 0 to 255, or 0 and 1. A greater one is refused: the type
  does not tell what its white would be.
- Fractions: white is 1 where no value is above 1, and 255 where none is above 255, which are
  rounded. A greater one is refused.
- A negative value is refused, and so is one that is no number (NaN) or infinite.

Each of the three kinds (8 bits, more bits, fractions) is decided by itself: pictures of 8 bits
beside those of 16 stay as they are. Opacity has a range of its own, found in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from datagen.errors import InvalidFile

Kind = Literal["bytes", "integers", "fractions"]

GREY = 255
BITS = {255: 8, 1023: 10, 4095: 12, 16383: 14, 32767: 15, 65535: 16}
_WHITES = (1, 255, 1023, 4095, 16383, 65535)
_SIXTEEN = frozenset({"uint16", "int16"})
# Grey values below this cannot be told from black.
_VISIBLE = 2
_WANTED = (
    "expected are 0 to 255, 0 to 1, or in uint16 0 to 1023, 4095, 16383 or 65535, so bring them "
    "there first"
)


@dataclass(frozen=True)
class Span:
    """Where the values of some images lie.

    Attributes:
        type: of the values, as NumPy names it.
        low: the least of them.
        high: the greatest.
        opacity: the greatest of the opacity; None where there is none.
    """

    type: str
    low: float
    high: float
    opacity: float | None = None

    @property
    def kind(self) -> Kind:
        """Which of the three kinds the type is of."""
        dtype = np.dtype(self.type)
        if dtype.kind == "f":
            return "fractions"
        return "bytes" if dtype.itemsize == 1 else "integers"


@dataclass(frozen=True)
class Scale:
    """What values become grey values by.

    Attributes:
        white: the value that becomes 255.
        opaque: the opacity that lets nothing through.
    """

    white: float
    opaque: float


def measured(values: np.ndarray, type_name: str, name: str, *, alpha: bool) -> Span:
    """Where values lie, whose channels are on the third axis from the end.

    Args:
        values: (..., C, H, W), whole numbers or fractions.
        type_name: the type that they have in their file.
        name: what they are called where something is wrong with them.
        alpha: whether the last channel is opacity.

    Raises:
        InvalidFile: a value that is no number, or infinite.
    """
    colours = values[..., :-1, :, :] if alpha else values
    low, high = float(colours.min()), float(colours.max())
    opacity = float(values[..., -1, :, :].max()) if alpha else None
    least = float(values[..., -1, :, :].min()) if alpha else 0.0
    if not np.isfinite([low, high, opacity or 0.0]).all() or np.isnan(least):
        raise InvalidFile(
            f"{name} has values that are no numbers, or infinite (NaN, inf); put numbers there."
        )
    if least < 0:
        raise InvalidFile(f"{name} has an opacity of {least:g}; it begins at 0, which is clear.")
    return Span(type_name, low, high, opacity)


@dataclass
class _Seen:
    """What was seen of a kind."""

    low: float = np.inf
    high: float = -np.inf
    opacity: float = 0.0
    count: int = 0
    darkest: str = ""
    brightest: str = ""
    types: set[str] = field(default_factory=set)
    splits: dict[str | None, float] = field(default_factory=dict)

    def add(self, span: Span, split: str | None, count: int, name: str) -> None:
        if span.low < self.low:
            self.low, self.darkest = span.low, name
        if span.high > self.high:
            self.high, self.brightest = span.high, name
        self.opacity = max(self.opacity, span.opacity or 0.0)
        self.count += count
        self.types.add(span.type)
        self.splits[split] = max(span.high, self.splits.get(split, span.high))

    @property
    def type_names(self) -> str:
        return " and ".join(sorted(self.types))


@dataclass
class ValueRange:
    """The range of a dataset's values, found while its images are read.

    Attributes:
        bright: whether an image of 8 bits had a value above 1, as all but masks have; the values
            of such images are what they are.
    """

    bright: bool = False
    _seen: dict[Kind, _Seen] = field(default_factory=dict)

    def add(self, span: Span, split: str | None, count: int, name: str) -> None:
        """Take in where the values of some images lie."""
        self._seen.setdefault(span.kind, _Seen()).add(span, split, count, name)
        if span.kind == "bytes" and span.high > 1:
            self.bright = True

    def scales(self) -> dict[Kind, Scale]:
        """What the values of each kind become grey values by.

        Raises:
            InvalidFile: values that the rule has no white for.
        """
        return {
            kind: Scale(self._white(kind, seen), _first_above(seen.opacity))
            for kind, seen in self._seen.items()
        }

    def notes(self) -> list[str]:
        """Sentences that say what the rule gave."""
        told = [_told(seen, self._white(kind, seen)) for kind, seen in self._seen.items()]
        dark = [
            f"The images of {split} have no value above {high:g}, so they are nearly black beside "
            "the others; they were scaled as those were."
            for kind, seen in self._seen.items()
            for split, high in seen.splits.items()
            if split is not None and self._is_black(kind, seen, high)
        ]
        return [note for note in told if note] + dark

    def _white(self, kind: Kind, seen: _Seen) -> float:
        if seen.low < 0:
            raise _out_of_range(seen, seen.darkest)
        if kind != "fractions" and self._is_binary():
            white: float = 1
        elif kind == "bytes":
            white = GREY
        elif kind == "integers":
            white = _white_of_integers(seen)
        else:
            white = _first_above(seen.high)
        if seen.high > white or (kind == "fractions" and white > GREY):
            raise _out_of_range(seen, seen.brightest)
        if not np.isfinite(_first_above(seen.opacity)):
            raise InvalidFile(
                f"The opacity goes up to {seen.opacity:g} in {seen.type_names}; wanted is 0 to 1, "
                "to 255 or to 65535."
            )
        self._check_training(kind, seen, white)
        return white

    def _is_binary(self) -> bool:
        highest = [seen.high for kind, seen in self._seen.items() if kind != "fractions"]
        return not self.bright and max(highest) == 1

    def _is_black(self, kind: Kind, seen: _Seen, high: float) -> bool:
        factor = GREY / self._white(kind, seen)
        return 0 < high * factor < _VISIBLE <= seen.high * factor

    def _check_training(self, kind: Kind, seen: _Seen, white: float) -> None:
        """Refuse images to train on that others, of another range, would make black."""
        if self.bright or kind == "bytes" or len(self._seen) > 1:
            return
        split = None if None in seen.splits else "train"
        high = seen.splits.get(split, seen.high)
        if 0 < high * GREY / white < _VISIBLE <= seen.high * GREY / white:
            raise InvalidFile(
                f"The images to train on have no value above {high:g}, but {seen.brightest} has "
                f"{seen.high:g}, beside which they would be black; bring all to one range."
            )


def _out_of_range(seen: _Seen, name: str) -> InvalidFile:
    return InvalidFile(
        f"{name} has values from {seen.low:g} to {seen.high:g} in {seen.type_names}; {_WANTED}."
    )


def _first_above(high: float) -> float:
    return next((white for white in _WHITES if high <= white), np.inf)


def _white_of_integers(seen: _Seen) -> float:
    white = max(_first_above(seen.high), GREY)
    if white > GREY and not seen.types <= _SIXTEEN:
        return GREY
    return min(white, 32767) if seen.types == {"int16"} else white


def _told(seen: _Seen, white: float) -> str:
    if seen.high == 0:
        return ""
    types, plural = seen.type_names, "s" * (seen.count != 1)
    images = f"{seen.count:,} image{plural} (values from {seen.low:g} to {seen.high:g})"
    if seen.types <= {"uint8", "int8"}:
        return f"Only 0 and 1 in {types}, scaled by 1: {images}." if white == 1 else ""
    if white == 1:
        return f"Values from 0 to 1 in {types}, scaled by 1: {images}."
    if any(np.dtype(name).kind == "f" for name in seen.types):
        return f"Fractions in {types}, rounded to whole grey values: {images}."
    if white == GREY:
        return f"8-bit values in {types}, taken as they are: {images}."
    return f"{BITS[int(white)]}-bit values in {types}, scaled by {white:g}: {images}."
