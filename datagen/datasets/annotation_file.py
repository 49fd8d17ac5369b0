"""Pictures of a split whose labels stand in a text file beside them, as tiny-imagenet has them.

`val/val_annotations.txt` has a line a picture: its name, its class, and a box, between tabs; the
pictures lie in `val/images`. http://cs231n.stanford.edu/tiny-imagenet-200.zip
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from datagen.datasets.listing import Folder, nfc
from datagen.errors import InvalidFile

_ENDING = "annotations.txt"
_COLUMNS = (2, 6)


@dataclass
class Annotated:
    """The pictures of each class, the files that they and their labels stand in, and notes."""

    classes: dict[str, list[Path]] = field(default_factory=dict)
    members: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find(split: Folder, pictures: Folder, known: Collection[str]) -> Annotated | None:
    """The classes of a split's pictures, if a text file beside them names one of each.

    Args:
        split: the folder in which the file is looked for.
        pictures: the folder in which the pictures lie.
        known: the classes of the splits that have class folders.

    Raises:
        InvalidFile: a line that is no line of such a file, a class that is not known, or a picture
            that no line names.
    """
    names = [name for name in split.files if name.lower().endswith(_ENDING)]
    if len(names) != 1:
        return None
    path = split.path / names[0]
    labels = _labels(path)
    there = {nfc(name): pictures.path / name for name in pictures.pictures}
    found = Annotated(members=[path])
    for number, (name, label) in enumerate(labels.items(), start=1):
        if label not in known:
            raise InvalidFile(
                f"{names[0]} line {number} names the class {label[:80]!r}, for which no other "
                "split has a folder; correct the line."
            )
        if name not in there:
            raise InvalidFile(
                f"{names[0]} line {number} names {name[:80]!r}, which is not in the folder "
                f"{pictures.name!r}; add the picture or remove the line."
            )
        found.classes.setdefault(label, []).append(there.pop(name))
    if there:
        found.notes.append(
            f"Pictures that {names[0]} does not name, which were left out: {len(there):,}, such as "
            f"{next(iter(there))!r}."
        )
    found.members += [path for files in found.classes.values() for path in files]
    return found


def _labels(path: Path) -> dict[str, str]:
    labels: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                columns = line.rstrip("\r\n").split("\t")
                if len(columns) not in _COLUMNS or not columns[1].strip():
                    raise InvalidFile(
                        f"{path.name} line {number} is {line.strip()[:80]!r}; a picture, its class "
                        "and a box of four numbers were expected, between tabs."
                    )
                labels[nfc(columns[0].strip())] = nfc(columns[1].strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{path.name} cannot be read: {error}.") from error
    return labels
