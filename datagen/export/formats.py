"""The formats by name, each registered in one line, and those that other packages bring."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from datagen.errors import DatagenError, InvalidRequest
from datagen.export import (
    fiftyone,
    idx,
    imagefolder,
    npz,
    parquet,
    stylegan,
    tfrecord,
    webdataset,
)
from datagen.export.protocol import Format

ENTRY_POINTS = "datagen.export_formats"
OWN = (
    parquet.FORMAT,
    imagefolder.FORMAT,
    webdataset.FORMAT,
    idx.FORMAT,
    npz.FORMAT,
    tfrecord.FORMAT,
    stylegan.FORMAT,
    fiftyone.FORMAT,
)


@cache
def _brought() -> dict[str, Format | str]:
    """Formats of other packages by name; a sentence in place of one that cannot be loaded."""
    found: dict[str, Format | str] = {}
    for point in entry_points(group=ENTRY_POINTS):
        whose = f"The export format {point.name!r} of {point.value.partition(':')[0]}"
        try:
            loaded = point.load()
        # Whatever another package's code leads into, the formats beside it must work.
        except Exception as error:  # noqa: BLE001
            found[point.name] = f"{whose} cannot be loaded: {type(error).__name__}: {error}."
            continue
        fits = isinstance(loaded, Format) and loaded.name == point.name
        found[point.name] = loaded if fits else f"{whose} is no Format of that name."
    return found


def formats() -> dict[str, Format]:
    """All formats that can be written, by name; our own names cannot be taken over."""
    brought = {name: found for name, found in _brought().items() if isinstance(found, Format)}
    return dict(sorted((brought | {own.name: own for own in OWN}).items()))


def known_format(name: str) -> Format:
    """The format of a name.

    Raises:
        InvalidRequest: there is none; it names those that there are.
        DatagenError: another package brings it, and it cannot be loaded.
    """
    known = formats()
    if name in known:
        return known[name]
    problem = _brought().get(name)
    if isinstance(problem, str):
        raise DatagenError(problem)
    raise InvalidRequest(
        f"There is no export format {name[:40]!r}; there are {', '.join(known)}.", field="format"
    )
