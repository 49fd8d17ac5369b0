"""What lies in a folder: pictures and other files, without what operating systems leave there."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from datagen.pictures.opening import HEAD_BYTES, begins_as_picture

# What the reader of pictures decodes.
ENDINGS = frozenset(
    {
        ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".bmp", ".dib", ".gif",
        ".webp", ".tif", ".tiff",
    }
)  # fmt: skip
# Pictures that are not read are no less pictures: leaving them out would change the dataset unseen.
UNREAD = frozenset(
    {
        ".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2",
        ".j2k", ".jpx", ".tga", ".psd", ".exr", ".hdr", ".pcx", ".dcm", ".dng", ".cr2", ".cr3",
        ".nef", ".arw", ".orf", ".rw2", ".svg",
    }
)  # fmt: skip
# Folders and files of operating systems, network drives and tools, in lower case. Names that begin
# with a dot are left out besides.
_LEFTOVER_FOLDERS = frozenset(
    {
        "__macosx", "lost+found", "@eadir", "#recycle", "#snapshot", "@recycle",
        "@recently-snapshot", "@tmp", "$recycle.bin", "$extend", "recycler", "recycled",
        "system volume information",
        "found.000", "__pycache__", "cvs", "node_modules", "temporary items",
        "network trash folder",
    }
)  # fmt: skip
_LEFTOVER_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_DOCUMENT_ENDINGS = (
    ".txt", ".md", ".rst", ".yaml", ".yml", ".html", ".htm", ".pdf", ".log", ".toml", ".cfg",
    ".ini", ".py", ".sh",
)  # fmt: skip
_DOCUMENT_NAMES = frozenset(
    {"readme", "license", "licence", "copying", "notice", "citation", "changelog", "authors"}
)
# Deeper folders are a mistake, or were linked in a circle.
MAX_DEPTH = 64


def nfc(name: str) -> str:
    """A name in the one form that names are compared in: Macs write é as two characters."""
    return unicodedata.normalize("NFC", name)


def is_leftover(name: str, *, folder: bool) -> bool:
    """Whether a file or folder is no data: hidden, or left there by an operating system."""
    known = _LEFTOVER_FOLDERS if folder else _LEFTOVER_FILES
    return name.startswith(".") or name.lower() in known


def is_document(name: str) -> bool:
    """Whether a file says nothing of a dataset's layout: a README, a licence, a text, a script."""
    lower = name.lower()
    return lower.endswith(_DOCUMENT_ENDINGS) or lower.partition(".")[0] in _DOCUMENT_NAMES


def is_picture(path: str) -> bool:
    """Whether a file is a picture: by its ending, or, where it has none, by its first bytes."""
    name = path.rpartition("/")[2]
    ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path a file takes longer
    if ending:
        return ending in ENDINGS or ending in UNREAD
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - likewise
            return begins_as_picture(file.read(HEAD_BYTES))
    except OSError:
        return False


@dataclass
class Folder:
    """A folder with all below it; names are in the order of their characters.

    Attributes:
        path: where it lies.
        folders: those in it.
        pictures: names of the pictures directly in it.
        files: names of the other files directly in it.
        around: the folder that it lies in; None for the one that the listing began with.
    """

    path: Path
    folders: list[Folder] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    around: Folder | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Its name, as names are compared."""
        return nfc(self.path.name)

    @cached_property
    def picture_count(self) -> int:
        """Pictures in it and below it."""
        return len(self.pictures) + sum(below.picture_count for below in self.folders)

    @cached_property
    def file_count(self) -> int:
        """All files in it and below it."""
        own = len(self.pictures) + len(self.files)
        return own + sum(below.file_count for below in self.folders)

    def above(self) -> Iterator[Folder]:
        """The folders that it lies in, from the nearest one on."""
        around = self.around
        while around is not None:
            yield around
            around = around.around

    def walk(self) -> Iterator[Folder]:
        """The folder itself, and all below it."""
        yield self
        for below in self.folders:
            yield from below.walk()

    def inner(self, name: str) -> Folder | None:
        """The folder of a name directly in it, if there is one."""
        return next((folder for folder in self.folders if folder.path.name == name), None)

    def pictures_below(self) -> list[Path]:
        """All pictures in it and below it, in the order of their paths as strings."""
        found = [f"{at.path}/{name}" for at in self.walk() for name in at.pictures]
        return [Path(name) for name in sorted(found, key=nfc)]

    def relative(self, root: Path) -> str:
        """Its path below a folder, with slashes."""
        return nfc(self.path.relative_to(root).as_posix())


def list_folder(path: Path) -> Folder:
    """What lies in a folder and below it. Links are followed, but never in a circle.

    Raises:
        OSError: a folder cannot be read.
    """
    return _listed(path, None, frozenset(), 0)


def _listed(
    path: Path, around: Folder | None, above: frozenset[tuple[int, int]], depth: int
) -> Folder:
    own = path.stat()
    above |= {(own.st_dev, own.st_ino)}
    folder = Folder(path, around=around)
    with os.scandir(path) as entries:
        found = sorted(entries, key=lambda entry: nfc(entry.name))
    for entry in found:
        below = entry.is_dir()
        if is_leftover(entry.name, folder=below):
            continue
        if below:
            inner = path / entry.name
            status = inner.stat()
            if depth < MAX_DEPTH and (status.st_dev, status.st_ino) not in above:
                folder.folders.append(_listed(inner, folder, above, depth + 1))
        elif is_picture(entry.path):
            folder.pictures.append(entry.name)
        else:
            folder.files.append(entry.name)
    return folder
