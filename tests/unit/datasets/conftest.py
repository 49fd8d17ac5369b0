"""Exports of ours, to be read back."""

from __future__ import annotations

import pytest
from drawing import Drawn

from datagen.images import LabelledImages


@pytest.fixture
def exported(tmp_path):
    """Writes an export; the folder, and the images that are in it."""

    def write(kind):
        drawn = Drawn({"0": 4, "1": 3, "10": 5})
        drawn.write(kind, tmp_path / "out")
        return tmp_path / "out", LabelledImages(drawn.images, drawn.labels, drawn.names)

    return write
