"""The dataset card: `README.md` with the front matter that hubs read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from datagen.export.info import ExportInfo, JobInfo
from datagen.export.licences import card_licence
from datagen.export.naming import folder_names
from datagen.export.protocol import Format, missing_before_others
from datagen.model_quality import quality_rows, training_notes

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
_MORE = "n>10M"
_SHOWN_CLASSES = 1000


def card(layout: Format, info: ExportInfo) -> str:
    """The card of an export, as Markdown."""
    parts = [_front(layout, info), f"# {_cell(info.title)}", *_summary(info), _counts(info)]
    parts += ["## Loading", f"```python\n{layout.loading}\n```"]
    if layout.advice:
        parts.append(layout.advice)
    if layout.by_class:
        parts += [*_folders(info.class_names), *_without(info)]
    parts += ["## Where they come from", *_origins(layout, info)]
    return "\n\n".join(parts) + "\n"


def _front(layout: Format, info: ExportInfo) -> str:
    synthetic, real = _kinds(info)
    fields: dict[str, Any] = {
        **card_licence(info.licence),
        "pretty_name": info.title,
        "size_categories": [
            next((name for most, name in _SIZES if info.images_total < most), _MORE)
        ],
        "task_categories": ["image-classification"],
        "task_ids": ["multi-class-image-classification"],
        # A model made the synthetic images for their labels; real ones came with theirs.
        "annotations_creators": ["machine-generated"] * synthetic + ["found"] * real,
        "source_datasets": ["original"]
        if info.dataset is None
        else [f"extended|{info.dataset.name}"],
        "tags": ["synthetic"] * synthetic + ["datagen"],
    }
    if layout.split_files is not None:
        files = [
            {"split": split, "path": layout.split_files.format(split=split)}
            for split in info.counts
        ]
        fields["configs"] = [{"config_name": "default", "data_files": files}]
    # What JSON writes, YAML reads the same way.
    lines = [f"{name}: {json.dumps(value)}" for name, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _kinds(info: ExportInfo) -> tuple[bool, bool]:
    """Whether any image is synthetic, and whether any is real."""
    synthetic, real = (
        any(any(counts) for counts in kind.values()) for kind in (info.synthetic, info.real)
    )
    return synthetic, real


def _summary(info: ExportInfo) -> Iterator[str]:
    channels, height, width = info.image_shape
    made = sum(int(np.sum(counts)) for counts in info.synthetic.values())
    real = info.images_total - made
    if info.partial:
        yield "**A job did not finish; this is what it had stored.**"
    colours = "grey" if channels == 1 else "RGB"
    yield (
        f"{info.images_total:,} images of {width} x {height} pixels, {colours}: "
        f"{made:,} synthetic, {real:,} real. No synthetic one is a photograph or a scan: they are "
        "for training, beside real images."
    )
    elsewhere = [name for name, counts in info.synthetic.items() if name != "train" and any(counts)]
    if elsewhere:
        yield (
            f"**Synthetic images stand in {' and '.join(elsewhere)}.** What is measured on them is "
            "how well the generator's own images are recognised, not how well real ones will be; "
            "measure on real images."
        )


def _counts(info: ExportInfo) -> str:
    mixed = any(any(counts) for counts in info.real.values())
    none = [0] * len(info.class_names)
    heads: list[str] = []
    columns: list[Sequence[int]] = []
    for split in info.counts:
        if mixed:
            heads += [f"{split}, real", f"{split}, synthetic"]
            columns += [info.real.get(split, none), info.synthetic.get(split, none)]
        else:
            heads.append(split)
            columns.append(info.synthetic.get(split, none))
    lines = [f"| number | label | {' | '.join(heads)} |", f"|---:|---|{'---:|' * len(heads)}"]
    lines += [
        f"| {label} | {_cell(name)} | {' | '.join(f'{column[label]:,}' for column in columns)} |"
        for label, name in enumerate(info.class_names[:_SHOWN_CLASSES])
    ]
    if len(info.class_names) > _SHOWN_CLASSES:
        lines.append(f"| | and {len(info.class_names) - _SHOWN_CLASSES:,} more |")
    return "\n".join(lines)


def _origins(layout: Format, info: ExportInfo) -> Iterator[str]:
    lines = []
    if info.dataset is not None:
        lines.append(
            f"- real images: dataset `{info.dataset.name}` (version {info.dataset.version}, digest "
            f"`{info.dataset.digest}`), each in the split that it came with"
        )
    lines += [_job(job) for job in info.jobs]
    if any(job.request.get("labelled_by") == "judge" for job in info.jobs):
        lines.append(
            "- a model knows no labels: **each of its images has the label that the judge gave it**"
        )
    yield "\n".join(lines)
    yield from _quality(info)
    if layout.metadata:
        yield _COLUMNS
    yield (
        "`manifest.json` says how each job was asked for, and names every file with its SHA-256; "
        "`datagen verify` checks them."
    )


def _quality(info: ExportInfo) -> Iterator[str]:
    """How good each generator was found to be, by images that it had not learnt from."""
    models = {job.model_digest: job for job in info.jobs}
    lines = [
        f"| `{_cell(job.model_name)}` (version {job.model_version}) | {row.name} | {row.generated} "
        f"| {row.real or '-'} | {row.chance or '-'} |"
        for job in models.values()
        for row in quality_rows(job.metrics)
    ]
    if lines:
        yield "What the training of each generator measured, with the sampler that it recommends:"
        heads = [
            "| model | figure | generated images | real images | guessing |",
            "|---|---|---:|---:|---:|",
        ]
        yield "\n".join([*heads, *lines])
        meanings = {row.name: row for job in models.values() for row in quality_rows(job.metrics)}
        yield "\n".join(f"- {row.name}: {row.meaning}" for row in meanings.values())
    notes = [
        f"- `{_cell(job.model_name)}` (version {job.model_version}): {_cell(note)}"
        for job in models.values()
        for note in training_notes(job.metrics)
    ]
    if notes:
        yield "\n".join(notes)


def _job(job: JobInfo) -> str:
    bound = "" if job.truncation is None else f", truncation {job.truncation:g}"
    bound += "" if job.strength is None else f", strength {job.strength:g}"
    return (
        f"- synthetic images: job `{job.job_id}` of {job.created_at:%Y-%m-%d}, seed {job.seed}, "
        f"sampler `{job.sampler}`, temperature {job.temperature:g}{bound}, by the model "
        f"`{_cell(job.model_name)}` (version {job.model_version}, digest `{job.model_digest}`)"
    )


_COLUMNS = """\
Each image has these fields:

- `synthetic`: whether a model made it
- `index`, with `job`, `seed` and `attempt`: from which random numbers it was made; of a real image,
  its place in its split of the dataset, and in `source_file` what it was called
- `first_source` and `second_source`: rows of the training split, the real images that it was made
  from, where the sampler starts from any
- `score`: how probable its label is to the judge, a classifier that took no part in training the
  generator; `judged_label`: what the judge takes it for
- `model`: the digest of the generator; `digest`: the SHA-256 of its PNG file"""


def _folders(class_names: Sequence[str]) -> Iterator[str]:
    folders = folder_names(class_names)
    if folders == list(class_names):
        return
    yield """\
## Folder names

Some labels are no safe folder names, or would be taken for a split, or a loader would sort their
folders in another order than that of their numbers; their folders are named otherwise. The column
`label` and `classes.txt` have the true names."""
    rows = [
        f"| {label} | {_cell(name)} | `{folder}` |"
        for label, (name, folder) in enumerate(zip(class_names, folders, strict=True))
    ]
    lines = ["| number | label | folder |", "|---:|---|---|", *rows[:_SHOWN_CLASSES]]
    if len(rows) > _SHOWN_CLASSES:
        lines.append("| | and more | in `folders.txt` |")
    yield "\n".join(lines)


def _without(info: ExportInfo) -> Iterator[str]:
    """What to do in splits in which classes are missing."""
    lines = []
    for split, counts in info.counts.items():
        missing = missing_before_others(counts)
        if missing:
            names = ", ".join(_cell(info.class_names[label]) for label in missing[:_NAMED])
            lines.append(f"- {split}: {names}{', …' if len(missing) > _NAMED else ''}")
    if lines:
        yield _MISSING
        yield "\n".join(lines)
        yield _REMEDIES


_NAMED = 10
_MISSING = """\
## Classes without images

**In these splits loaders of folders number the classes otherwise than the column `label`**, because
a class without images has no folder there:"""
_REMEDIES = """\
What helps:

```python
from pathlib import Path
root, split = Path("path/to/this/folder"), "train"
folders = (root / "folders.txt").read_text().split("\\n")[:-1]

# timm
from timm.data import ImageDataset
images = ImageDataset(str(root / split), class_map=str(root / "folders.txt"))

# torchvision, Keras, Ultralytics and TFDS number right once the empty folders are there
for folder in folders:
    (root / split / folder).mkdir(exist_ok=True)
from torchvision.datasets import ImageFolder
images = ImageFolder(root / split, allow_empty=True)

# fastai
from fastai.vision.all import CategoryBlock
labels = CategoryBlock(vocab=folders, sort=False)
```"""


def _cell(text: str) -> str:
    safe = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(safe.split()) or "&nbsp;"
