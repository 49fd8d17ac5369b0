"""What a format is: how it is written, and what it can hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from datagen.errors import InvalidRequest
from datagen.export.info import ExportInfo
from datagen.export.rows import Split
from datagen.export.sinks import Sink
from datagen.schemas import SPLITS

Writer = Callable[[Iterable[Split], ExportInfo, Sink], None]
ImageShape = tuple[int, int, int]


RecordField = tuple[str, str, Mapping[str, str], Mapping[str, str] | None]


@dataclass(frozen=True)
class Records:
    """Records that Croissant's readers can read from an export's files.

    Not from archives in it: their reader keeps what it unpacks under the archive's name, which is
    the same in every export, and would show one export's images in another.

    Attributes:
        name, description: of the set.
        includes: glob of the files.
        encoding: their media type.
        fields: name, data type, what is taken from a file, and how it is changed, of each field.
    """

    name: str
    description: str
    includes: str
    encoding: str
    fields: tuple[RecordField, ...]


def _nothing_more(image_shape: ImageShape, class_names: Sequence[str]) -> None:
    """Every shape and every class name is fine."""


@dataclass(frozen=True)
class Format:
    """A layout that exports can be written in.

    Attributes:
        name: by which it is asked for.
        summary: what it is, in a few words.
        write: writes the splits, each gone through once and in turn, through the sink.
        loading: how a file of such an export is opened, as Python code for the card.
        grey, rgb: whether it takes images of 1 and of 3 channels.
        metadata: whether it says of each image where it comes from.
        splits: those that it has a place for.
        check: raises InvalidRequest for a shape or for class names that it cannot hold.
        records: what Croissant's readers find in it.
        advice: Markdown for the card about what the usual loaders need.
        by_class: whether loaders find the classes by the folders that the images lie in. No picture
            may lie beside these, and a class without images in a split has no number there.
        split_files: pattern of the files of a split, with `{split}` in it, by which the `datasets`
            library opens the export; None where it does not.
    """

    name: str
    summary: str
    write: Writer
    loading: str
    grey: bool = True
    rgb: bool = True
    metadata: bool = True
    splits: tuple[str, ...] = SPLITS
    check: Callable[[ImageShape, Sequence[str]], None] = _nothing_more
    records: tuple[Records, ...] = ()
    advice: str = ""
    by_class: bool = False
    split_files: str | None = None

    def refuse(
        self, image_shape: ImageShape, class_names: Sequence[str], splits: Iterable[str]
    ) -> None:
        """Say in time what the format cannot hold.

        Raises:
            InvalidRequest: colours, a shape, class names or a split that it has no place for.
        """
        channels = image_shape[0]
        if not (self.grey if channels == 1 else self.rgb):
            held, given = ("RGB", "grey") if channels == 1 else ("grey", "RGB")
            raise InvalidRequest(
                f"The format {self.name!r} holds {held} images only, and these are {given}; "
                "'parquet' and 'imagefolder' hold both.",
                field="format",
            )
        for split in splits:
            if split not in self.splits:
                raise InvalidRequest(
                    f"The format {self.name!r} has no place for the split {split!r}, only for "
                    f"{' and '.join(self.splits)}; 'parquet' and 'imagefolder' hold all three.",
                    field="format",
                )
        self.check(image_shape, class_names)

    def warnings(
        self, class_names: Sequence[str], counts: Mapping[str, np.ndarray]
    ) -> Iterator[str]:
        """Sentences about what loaders will read otherwise than it is meant.

        Args:
            class_names: in order.
            counts: images of each class in each split that has any, int64 (K,).
        """
        if not self.by_class:
            return
        for split, own in counts.items():
            missing = missing_before_others(own)
            if missing:
                more = f" and of {len(missing) - 1} more classes" if len(missing) > 1 else ""
                yield (
                    f"The split {split} has no images of {class_names[missing[0]]!r}{more}: a "
                    "loader of class folders numbers the classes after it otherwise, unless it is "
                    "given 'folders.txt' as the export's README says."
                )


def missing_before_others(counts: np.ndarray) -> list[int]:
    """Classes without images that stand before one with images: their folders would be counted."""
    present = np.flatnonzero(counts)
    last = int(present[-1]) if len(present) else 0
    return np.flatnonzero(counts[:last] == 0).tolist()
