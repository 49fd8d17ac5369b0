"""Pictures of a preview: bytes to keep, and something that a notebook shows."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape

from datagen.schemas import Preview, PreviewImage

SHOWN_PIXELS = 56


class Pictures:
    """The images of a preview.

    Attributes:
        preview: the answer as it came, with the model and each image's label and score.
    """

    def __init__(self, preview: Preview) -> None:
        self.preview = preview

    def __len__(self) -> int:
        return len(self.preview.images)

    def __iter__(self) -> Iterator[PreviewImage]:
        return iter(self.preview.images)

    def pngs(self) -> list[bytes]:
        """The PNG file of each image."""
        return [base64.b64decode(image.png) for image in self.preview.images]

    def sheet(self, scale: int = 2) -> bytes:
        """One PNG picture with a row of images a label."""
        from datagen.images import labelled_sheet  # noqa: PLC0415 - slow to load

        labels = [image.label for image in self.preview.images]
        return labelled_sheet(self.pngs(), labels, scale=scale)

    def _repr_html_(self) -> str:
        """What a notebook shows: the images with their labels and scores."""
        shown = (
            f'<figure style="display:inline-block;margin:2px;text-align:center;font-size:10px">'
            f'<img src="data:image/png;base64,{escape(image.png)}" width="{SHOWN_PIXELS}" '
            f'style="image-rendering:pixelated" alt="{escape(image.label)}">'
            f"<figcaption>{escape(image.label)} {image.score:.2f}</figcaption></figure>"
            for image in self.preview.images
        )
        return f"<div>{''.join(shown)}</div>"
