"""StyleGAN's zip: `<split>.zip` of numbered PNG files and `dataset.json` with their labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from datagen.errors import InvalidRequest
from datagen.export.classes import put_classes
from datagen.export.info import ExportInfo
from datagen.export.protocol import Format, ImageShape
from datagen.export.rows import Split
from datagen.export.sinks import Sink, ZipSink

IMAGES_PER_FOLDER = 1000
_LOADING = """\
# StyleGAN2-ADA and StyleGAN3 take the zip as it is:
#   python train.py --data=path/to/this/folder/train.zip --cond=True …
import json, zipfile
archive = zipfile.ZipFile("path/to/this/folder/train.zip")
labels = dict(json.loads(archive.read("dataset.json"))["labels"])"""
_ADVICE = """\
- `classes.txt` names the labels: line N, counted from 0, is class N."""


def write(splits: Iterable[Split], info: ExportInfo, sink: Sink) -> None:
    """Write an uncompressed zip for each split."""
    for split in splits:
        with sink.open(f"{split.name}.zip") as file, ZipSink(file) as archive:
            labels: list[str] = []
            for rows in split.rows:
                for label, image in zip(
                    rows.samples.labels.tolist(), rows.samples.images, strict=True
                ):
                    name = _name(len(labels))
                    archive.put(name, image)
                    labels.append(f'["{name}", {label}]')
            archive.put("dataset.json", f'{{"labels": [{", ".join(labels)}]}}'.encode())
    put_classes(sink, info.class_names)


def _name(number: int) -> str:
    return f"{number // IMAGES_PER_FOLDER:05d}/img{number:08d}.png"


def _check(image_shape: ImageShape, _class_names: Sequence[str]) -> None:
    _, height, width = image_shape
    if height != width or height & (height - 1):
        raise InvalidRequest(
            f"The format 'stylegan' holds square images whose side is a power of two, and these "
            f"are {width} x {height}; train on images of another size, or take another format.",
            field="format",
        )


FORMAT = Format(
    "stylegan",
    "the zip that StyleGAN's training reads; square images of a power of two",
    write,
    _LOADING,
    metadata=False,
    check=_check,
    advice=_ADVICE,
)
