"""What may be said beside the first arguments of a request, with its types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict
from uuid import UUID

from datagen.schemas import Balance, Gate, Priority, Sampler


class JobOptions(TypedDict, total=False):
    """What a request for images may say beside model and labels.

    Attributes:
        per_label: instead of labels, this many of every label.
        count: instead of labels, this many of a model that knows none; the judge gives them.
        balance: instead of labels, what a dataset lacks: `{"dataset": "defects", "to": 5000}`, or
            up to its largest class without `to`.
        seed: the same request with the same seed gives the same bytes; drawn if None.
        temperature: scales the latents; below 1 is safer and less varied.
        sampler: `prior`, `density`, `neighbour` or `interpolate`; by default the one that the
            model's training found best, of those that you may use; what usually teaches best where
            it compared nothing.
        truncation: keeps the latents' normals within this distance of 0.
        strength: of the sampler `neighbour`, from 0, which gives the real image as the model
            reconstructs it, to 1, which gives one that has nothing to do with it.
        gate: what an image must pass, such as `{"min_score": 0.9}`; what does not is drawn again.
            `{}` takes the defaults of `datagen.schemas.Gate`, None takes every image; by default it
            is what the model's training recommends.
        exports: formats to export as soon as the job has succeeded.
        priority: `interactive` for few images that somebody waits for, `bulk` for others; by its
            size if None.
        metadata: anything of yours that JSON can hold; told again with the job.
        retention_days: days after its end at which it is removed with its images.
        webhook: the id of one of your webhooks, that is told of its end.
    """

    per_label: int | None
    count: int | None
    balance: Balance | Mapping[str, Any] | None
    seed: int | None
    temperature: float | None
    sampler: Sampler | Literal["recommended"]
    truncation: float | None
    strength: float | None
    gate: Gate | Mapping[str, Any] | Literal["recommended"] | None
    exports: Sequence[str]
    priority: Priority | None
    metadata: Mapping[str, Any]
    retention_days: int | None
    webhook: UUID | str | None


class PreviewOptions(TypedDict, total=False):
    """What a preview may be told beside model and labels.

    Attributes:
        per_label: instead of labels, this many of every label.
        count: instead of both, this many of a model that knows no labels.
        seed: a job with this seed begins with the same images.
        sampler: as for a job.
        temperature: as for a job.
        truncation: as for a job.
        strength: as for a job.
        gate: as for a job; what does not pass is left out. None takes every image.
    """

    per_label: int | None
    count: int | None
    seed: int
    sampler: Sampler | Literal["recommended"]
    temperature: float
    truncation: float | None
    strength: float | None
    gate: Gate | Mapping[str, Any] | None


class ReadingOptions(TypedDict, total=False):
    """How a dataset is to be read.

    Attributes:
        size: side in pixels that every image is brought to.
        pad: keep the proportions, and fill up the edges.
        on_error: whether a file that cannot be read refuses all, or is left out and listed.
        split: shares of train, validation and test, where the data come with no splits.
        seed: which images go into which split.
        zip_encoding: of the names in a zip that does not say that they are UTF-8, such as `cp932`.
    """

    size: int | None
    pad: bool
    on_error: Literal["fail", "skip"]
    split: Mapping[str, float] | None
    seed: int
    zip_encoding: str | None


class ExportOptions(TypedDict, total=False):
    """What an export may be told beside jobs and format.

    Attributes:
        dataset: real images beside the jobs', each in the split that it came with.
        plan: how many synthetic images go beside real ones, counted in the split `train`:
            `{"fill": 5000}`, `{"add": 500}` or `{"balance": True}`; all, if absent.
        splits: shares by which synthetic images are shared out, class by class, such as
            `{"train": 0.8, "validation": 0.1, "test": 0.1}`; all into `train`, if absent.
        split_seed: which of them go where.
        labels: only images of these.
        class_order: how the classes are numbered: as in the dataset or model (`dataset`), or by
            their `name`.
        min_score: only synthetic images of this score or more.
        indices: only synthetic images from the first index to before the second.
        max_per_label: at most so many synthetic images of a label, the first ones.
        on_shortfall: whether a plan that asks for more than there are is refused (`fail`).
        license: of the export; by default that of its sources.
        repair: have shards that are missing or damaged made again, and wait for them.
        destination: put the files there, in place of an archive to download: a name that the
            server's operator has given.
        path: where in the destination; by default the format and the export's id.
        overwrite: replace a former export there; nothing else is ever replaced.
    """

    dataset: str | None
    plan: Mapping[str, int | bool] | None
    splits: Mapping[str, float] | None
    split_seed: int
    labels: Sequence[str] | None
    class_order: Literal["dataset", "name"]
    min_score: float | None
    indices: tuple[int, int] | None
    max_per_label: int | None
    on_shortfall: Literal["fail", "keep"]
    license: str | None
    repair: bool
    destination: str | None
    path: str | None
    overwrite: bool


def refuse_unknown(options: Mapping[str, object], kind: type) -> None:
    """Refuse an option that is none, as Python does for arguments. Raises TypeError."""
    known = sorted(kind.__annotations__)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(f"{unknown[0]!r} is no option here; there are {', '.join(known)}")
