"""The contact sheet: the first images of each class, to look at before anything is unpacked."""

from __future__ import annotations

import base64

import numpy as np

from datagen.export.info import ExportInfo
from datagen.export.rows import Rows
from datagen.images import contact_sheet, decode_pngs

IMAGES = 12
CLASSES = 50
PICTURE, PAGE = "contact-sheet.png", "contact-sheet.html"
# Small images are shown twice as large.
SMALL_SIDE = 48


class Sheet:
    """Keeps the first images of the first classes as they pass.

    Real and synthetic ones are shown in rows of their own.
    """

    def __init__(self, info: ExportInfo) -> None:
        self._names = info.class_names
        self._channels = info.image_shape[0]
        self._scale = 2 if max(info.image_shape[1:]) <= SMALL_SIDE else 1
        self._mixed = any(any(counts) for counts in info.real.values())
        self._kept: dict[tuple[int, bool], list[bytes]] = {}
        present = np.any([counts > 0 for counts in info.counts.values()], axis=0)
        self._open = set(np.flatnonzero(present)[:CLASSES].tolist())

    def see(self, rows: Rows) -> None:
        """Keep what is still wanted."""
        if not self._open:
            return
        synthetic = rows.origin.synthetic
        for label in sorted(self._open & set(rows.samples.labels.tolist())):
            kept = self._kept.setdefault((label, synthetic), [])
            for row in np.flatnonzero(rows.samples.labels == label)[: IMAGES - len(kept)].tolist():
                kept.append(rows.samples.images[row])
            if len(kept) == IMAGES and not self._mixed:
                self._open.discard(label)

    def picture(self) -> bytes:
        """The sheet as a PNG file."""
        shown = sorted(self._kept, key=lambda key: (key[0], key[1]))
        names = [
            self._names[label] + ((" (synthetic)" if synthetic else " (real)") * self._mixed)
            for label, synthetic in shown
        ]
        rows = [decode_pngs(self._kept[key]) for key in shown]
        return contact_sheet(rows, names, scale=self._scale)


def as_page(picture: bytes) -> bytes:
    """A page that shows the sheet, for where a loader would take a picture for one of a class."""
    data = base64.b64encode(picture).decode()
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Contact sheet</title>\n'
        '<img alt="The first images of each class, a row for each" '
        f'src="data:image/png;base64,{data}">\n</html>\n'
    ).encode()
