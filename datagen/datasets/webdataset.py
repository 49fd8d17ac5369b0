"""WebDataset: tars in which the files of a sample stand side by side, by one key."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from datagen.datasets.archive import LARGEST_PICTURE, tar_files
from datagen.datasets.imagefolder import refuse_beside_classes
from datagen.datasets.listing import ENDINGS, Folder
from datagen.datasets.own_export import NAME_FILES, class_list
from datagen.datasets.source import Entry, Found, Source, in_chunks, split_of_path
from datagen.datasets.webdataset_labels import LABEL_ENDINGS, Labels, has_label
from datagen.errors import InvalidFile

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")
_NAME_BYTES = 1 << 20
_WORDS_OF_A_BOX = 5
_READ_ENDINGS = frozenset({*ENDINGS, *LABEL_ENDINGS})
_DATASETS = (".npz", ".parquet", ".csv", ".tsv", ".jsonl")
# So many files of a tar tell whether it holds samples.
_PEEKED = 2000

# A sample's shown name, its files by their endings, and its split.
_Sample = tuple[str, dict[str, bytes], str | None]
# Reads the samples; says by a file's name whether its bytes are needed.
_Reader = Callable[[Callable[[str], bool]], Iterator[_Sample]]


def find(root: Folder) -> Found | None:
    """The tars of samples in a folder and below it, or their files unpacked.

    Raises:
        InvalidFile: class folders lie beside the tars, or some of the tars hold samples and others
            do not.
    """
    every = [(folder, name) for folder in root.walk() for name in folder.files]
    tars = sorted(
        folder.path / name for folder, name in every if name.lower().endswith(TAR_ENDINGS)
    )
    classes = class_list(root.path, "webdataset")
    if tars:
        refuse_beside_classes(root, tars)
        samples = [path for path in tars if holds_samples(path)]
        if not samples:
            return None
        if len(samples) < len(tars):
            other = next(path.name for path in tars if path not in samples)
            raise InvalidFile(
                f"{samples[0].name} holds samples of WebDataset, and {other} holds none; keep one "
                "kind of tar there."
            )
        read: _Reader = partial(_from_tars, root.path, tars)
        return Found(
            "webdataset", root.path, [*tars, *classes.files], lambda: _source(classes.names, read)
        )
    folders = _loose(root)
    if not folders:
        return None
    files = [path for folder in folders for path in _files(folder)]
    read = partial(_from_files, root.path, files)
    return Found(
        "webdataset", root.path, [*files, *classes.files], lambda: _source(classes.names, read)
    )


def holds_samples(tar: Path) -> bool:
    """Whether a tar holds samples rather than class folders: a `.cls`, or a label beside a picture.

    Raises:
        InvalidFile: damaged or harmful.
    """
    pictures: set[str] = set()
    labels: set[str] = set()
    others: set[str] = set()
    certain = False
    for number, (name, data) in enumerate(tar_files(tar, lambda name: _is(name, ".json"))):
        key, ending = _key(name)
        certain |= ending == ".cls"
        if ending in ENDINGS:
            pictures.add(key)
        elif ending in LABEL_ENDINGS and ("/" not in key or has_label({ending: data})):
            labels.add(key)
        elif ending in _DATASETS:
            others.add(key)
        if number >= _PEEKED:
            break
    # A sample may hold arrays too; an array by itself may be the dataset.
    return (certain or bool(pictures & labels)) and others <= pictures


def _loose(root: Folder) -> list[Folder]:
    """The folders in which the files of samples lie beside each other."""
    every = list(root.walk())
    with_classes = [folder for folder in every if any(_is(name, ".cls") for name in folder.files)]
    if with_classes:
        return with_classes
    for ending in (".json", ".txt"):
        found = [folder for folder in every if _documented(folder, ending)]
        splits = {split_of_path(folder.path / "x", root.path) for folder in found}
        # Class folders may hold such a file beside each picture, too.
        if found and len(splits) == len(found):
            return found
    return []


def _documented(folder: Folder, ending: str) -> bool:
    """Whether each picture of a folder has a file beside it, and the first one a label."""
    stems = {_key(name)[0]: name for name in folder.files if _is(name, ending)}
    keys = [_key(name)[0] for name in folder.pictures]
    if not keys or not all(key in stems for key in keys):
        return False
    try:
        with (folder.path / stems[keys[0]]).open("rb") as file:
            data = file.read(_NAME_BYTES)
    except OSError:
        return False
    if ending == ".json":
        return has_label({ending: data})
    # YOLO's files of boxes begin with a class and four numbers.
    return bool(data.split()) and len(data.splitlines()[0].split()) < _WORDS_OF_A_BOX


def _is(name: str, ending: str) -> bool:
    return name.lower().endswith(ending)


def _files(folder: Folder) -> list[Path]:
    labels = [name for name in folder.files if name.lower().endswith(LABEL_ENDINGS)]
    wanted = [*folder.pictures, *(name for name in labels if name not in NAME_FILES)]
    return sorted(folder.path / name for name in wanted)


def _source(names: tuple[str, ...] | None, read: _Reader) -> Source:
    labels = Labels(names)
    for _, parts, _ in read(lambda name: _key(name)[1] in LABEL_ENDINGS):
        labels.add(parts)
    labels.decide()
    samples = read(lambda name: _key(name)[1] in _READ_ENDINGS)
    entries = (_entry(name, parts, split, labels) for name, parts, split in samples)
    return Source(in_chunks(entries), labels.class_names())


def _from_tars(
    root: Path, tars: Sequence[Path], wanted: Callable[[str], bool]
) -> Iterator[_Sample]:
    for path in tars:
        split = split_of_path(path, root)
        shown = path.relative_to(root).as_posix()
        key, parts = "", dict[str, bytes]()
        for name, data in tar_files(path, wanted):
            own, ending = _key(name)
            if own != key and parts:
                yield f"{shown}: {key}", parts, split or _split_of_key(key)
                parts = {}
            key = own
            parts[ending] = data
            if sum(map(len, parts.values())) > LARGEST_PICTURE:
                raise InvalidFile(f"{shown}: {key} has more bytes than any picture with labels.")
        if parts:
            yield f"{shown}: {key}", parts, split or _split_of_key(key)


def _split_of_key(key: str) -> str | None:
    """The split whose folder a key within a tar begins with."""
    return split_of_path(Path(key).with_name("x"), Path())


def _from_files(
    root: Path, files: Sequence[Path], wanted: Callable[[str], bool]
) -> Iterator[_Sample]:
    key, parts = Path(), dict[str, bytes]()
    for path in files:
        stem, ending = _key(path.name)
        own = path.with_name(stem)
        if own != key and parts:
            yield key.relative_to(root).as_posix(), parts, split_of_path(key / "x", root)
            parts = {}
        key = own
        parts[ending] = path.read_bytes() if wanted(path.name) else b""
    if parts:
        yield key.relative_to(root).as_posix(), parts, split_of_path(key / "x", root)


def _key(name: str) -> tuple[str, str]:
    """The key of a member and its ending: all that follows the first dot of the base name."""
    folder, base = os.path.split(name)
    start, dot, ending = base.partition(".")
    return f"{folder}/{start}".lstrip("/"), f"{dot}{ending}".lower()


def _entry(name: str, parts: dict[str, bytes], split: str | None, labels: Labels) -> Entry:
    endings = [ending for ending in parts if ending in ENDINGS]
    if len(endings) != 1:
        what = "no picture" if not endings else f"the pictures {', '.join(sorted(endings))}"
        return Entry(name, None, b"", split, f"{name} has {what}; one a sample is needed.")
    label, problem = labels.label(name, parts)
    return Entry(f"{name}{endings[0]}", label, parts[endings[0]], split, problem)
