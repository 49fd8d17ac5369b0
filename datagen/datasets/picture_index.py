"""Finding the pictures that the rows of a table name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from datagen.datasets.listing import Folder, nfc


def relative_name(value: Any) -> str | None:
    """The file name that a cell holds, if it is a relative one that stays in the folder."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return None
    # Tables of Windows have backslashes.
    path = PurePosixPath(nfc(value.strip().replace("\\", "/")))
    return None if path.is_absolute() or ".." in path.parts else path.as_posix()


class PictureIndex:
    """The pictures in a folder and below it, by their names relative to it.

    Attributes:
        by_name: where each picture lies; names are in NFC, with slashes.
    """

    def __init__(self, root: Folder) -> None:
        self.by_name: dict[str, Path] = {}
        for folder in root.walk():
            at = folder.relative(root.path)
            for name in folder.pictures:
                own = nfc(name) if at == "." else f"{at}/{nfc(name)}"
                self.by_name[own] = folder.path / name

    def find(self, value: Any, bases: Sequence[str]) -> str | None:
        """The name of the picture that a cell names, with its ending or without.

        Args:
            value: of the cell.
            bases: folders that the name may begin in, relative to the root, the likeliest first.

        Returns:
            None if there is no such picture, or more than one.
        """
        name = relative_name(value)
        if name is None:
            return None
        for base in bases:
            whole = f"{base}/{name}" if base else name
            if whole in self.by_name:
                return whole
            found = self._by_stem.get(whole, ())
            if len(found) == 1:
                return found[0]
        return None

    def has_name(self, value: Any) -> bool:
        """Whether a picture in any folder is called as a cell says, with its ending or without."""
        return nfc(str(value).strip().replace("\\", "/").rpartition("/")[2]) in self._base_names

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        stems: dict[str, list[str]] = {}
        for name in self.by_name:
            stems.setdefault(_stem(name), []).append(name)
        return stems

    @cached_property
    def _base_names(self) -> frozenset[str]:
        bases = [name.rpartition("/")[2] for name in self.by_name]
        return frozenset(bases) | frozenset(map(_stem, bases))


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name
