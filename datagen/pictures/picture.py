"""What a picture that a user brought becomes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Picture:
    """A picture that a user brought.

    Attributes:
        pixels: (C, H, W). Grey values as uint8, C being 1 or 3; or values of another type, whose
            range only the whole dataset tells. Those may have opacity, from 0 to 1, as a last
            channel, C being 2 or 4 then.
        changes: what was done to it: `transparency` laid over white, `1-bit` values brought to 8,
            a `palette` or other `colours` made RGB, `orientation` followed, the `first` of several
            pictures taken, a colour `profile` left aside, or an alpha channel of nothing but 0
            (`no-alpha`). `clear` tells that nothing is to be seen in it.
        values: the type of the values in the file, as NumPy names it, where it is another than
            uint8.
    """

    pixels: np.ndarray
    changes: frozenset[str]
    values: str | None = None

    @property
    def alpha(self) -> bool:
        """Whether the last channel is opacity."""
        return len(self.pixels) in {2, 4}


# The tag of EXIF.
ORIENTATION = 0x0112


def checked_orientation(noted: object) -> int:
    """An EXIF orientation from 1 to 8; 1, upright, where something else was noted."""
    return noted if isinstance(noted, int) and 1 <= noted <= 8 else 1  # noqa: PLR2004 - as EXIF says


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (C, H, W) turned as an EXIF orientation from 1 to 8 says; another changes nothing."""
    steps = {
        2: lambda x: x[:, :, ::-1],
        3: lambda x: x[:, ::-1, ::-1],
        4: lambda x: x[:, ::-1],
        5: lambda x: x.swapaxes(1, 2),
        6: lambda x: x[:, ::-1].swapaxes(1, 2),
        7: lambda x: x[:, ::-1, ::-1].swapaxes(1, 2),
        8: lambda x: x[:, :, ::-1].swapaxes(1, 2),
    }
    return np.ascontiguousarray(steps[orientation](pixels)) if orientation in steps else pixels
