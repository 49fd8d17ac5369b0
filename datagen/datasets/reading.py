"""How a dataset is to be read, and what reading it gave."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from datagen.datasets.names import Names
from datagen.errors import InvalidRequest
from datagen.images import LabelledImages
from datagen.schemas import SPLITS

DEFAULT_SHARES: Mapping[str, float] = {"train": 0.8, "validation": 0.1, "test": 0.1}
MAX_SIDE = 1024
LISTED_PROBLEMS = 100

OnError = Literal["fail", "skip"]


@dataclass(frozen=True)
class ReadOptions:
    """How a dataset is to be read.

    Attributes:
        size: side in pixels that every image is brought to; None leaves them as they are, and
            images of different sizes are then an error.
        pad: keep the proportions and fill up at the edges, instead of squeezing.
        on_error: whether one file that cannot be read refuses the dataset, or is left out and
            listed in the report.
        shares: share of each split, where the data came with none; a given `train` stays whole.
        seed: which images go into which split.
        zip_encoding: of the names in a zip that does not say that they are UTF-8.

    Raises:
        InvalidRequest: a value that cannot be used.
    """

    size: int | None = None
    pad: bool = False
    on_error: OnError = "fail"
    shares: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_SHARES))
    seed: int = 0
    zip_encoding: str | None = None

    def __post_init__(self) -> None:
        if self.size is not None and not 1 <= self.size <= MAX_SIDE:
            raise InvalidRequest(
                f"The size is {self.size} pixels; it must be from 1 to {MAX_SIDE}.", field="size"
            )
        if self.pad and self.size is None:
            raise InvalidRequest("Padding needs a size to pad to, such as size 32.", field="pad")
        if self.zip_encoding is not None and not _is_encoding(self.zip_encoding):
            raise InvalidRequest(
                f"The zip encoding is {self.zip_encoding[:40]!r}, which is not known; name one "
                "such as cp932, gbk or cp1252.",
                field="zip_encoding",
            )
        if self.on_error not in {"fail", "skip"}:
            raise InvalidRequest(
                f"on_error is {self.on_error!r}; it must be 'fail' or 'skip'.", field="on_error"
            )
        unknown = [name for name in self.shares if name not in SPLITS]
        if unknown or self.shares.get("train", 0.0) <= 0.0:
            raise InvalidRequest(
                f"The splits are {dict(self.shares)}; name shares of {', '.join(SPLITS)}, and a "
                "share above 0 of train.",
                field="split",
            )
        bad = [share for share in self.shares.values() if not 0.0 <= share <= 1.0]
        if bad or not math.isclose(sum(self.shares.values()), 1.0, abs_tol=1e-6):
            raise InvalidRequest(
                f"The shares {dict(self.shares)} must each be from 0 to 1 and add up to 1.",
                field="split",
            )


def _is_encoding(name: str) -> bool:
    """Whether text can be decoded by a codec of that name."""
    try:
        b"a".decode(name)
    except (LookupError, UnicodeError, ValueError):
        return False
    return True


@dataclass
class ReadReport:
    """What was found while reading; kept with the dataset, and shown.

    Attributes:
        source: the kind of source, such as `imagefolder` or `idx`.
        notes: sentences about what was done to the images: transparency laid over white, values
            scaled, sizes changed, grey made colour, splits made.
        skipped: files that were left out, with the reason; the first hundred.
        skipped_count: all of them.
        duplicates: images that are the same, pixel by pixel, as an earlier one.
        moved: of those, images that were taken out of another split, so that no image stands on
            both sides; each with its split.
        conflicting: images that stand under more than one label.
    """

    source: str = ""
    notes: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    skipped_count: int = 0
    duplicates: int = 0
    moved: dict[str, int] = field(default_factory=dict)
    conflicting: int = 0

    def as_json(self) -> dict[str, Any]:
        """The report as the database and the API hold it."""
        return {
            "source": self.source,
            "notes": list(self.notes),
            "skipped": list(self.skipped),
            "skipped_count": self.skipped_count,
            "duplicates": self.duplicates,
            "moved": dict(self.moved),
            "conflicting": self.conflicting,
        }


@dataclass(frozen=True)
class Opened:
    """A dataset as it was read.

    Attributes:
        splits: its images.
        report: what was found out about it.
        names: what the images of each split were called, where that is known.
    """

    splits: dict[str, LabelledImages]
    report: ReadReport
    names: dict[str, Names] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """What was read, without the images: the fields of `schemas.DatasetInspection`."""
        first = next(iter(self.splits.values()))
        return {
            "class_names": list(first.class_names),
            "image_shape": list(first.image_shape),
            "counts": {name: images.counts().tolist() for name, images in self.splits.items()},
            "report": self.report.as_json(),
        }


def shares_of(text: str) -> dict[str, float]:
    """Shares as one writes them: `train=0.8,validation=0.1,test=0.1`. Raises InvalidRequest."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        try:
            share = float(value)
        except ValueError:
            share = math.nan
        if not math.isfinite(share) or name in shares:
            raise InvalidRequest(
                f"The split is {text!r}; write it as train=0.8,validation=0.1,test=0.1.",
                field="split",
            )
        shares[name] = share
    return shares
