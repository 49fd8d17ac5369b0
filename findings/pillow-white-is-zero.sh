#!/bin/sh
# Pillow 13.0.0: a TIFF whose zero is white is turned over at 8 bits and not at 16.
#
# Expected: the tag PhotometricInterpretation = 0 (WhiteIsZero) has one meaning at every depth.
# Seen: the same picture, written twice by tifffile 2026.3.3 with that tag:
#   8 bits    stored 0, 64, 255       -> opened as L    with 255, 191, 0
#   16 bits   stored 0, 16448, 65535  -> opened as I;16 with 0, 16448, 65535
#   so scans of 16 bits arrive as negatives of those of 8 bits, black on white beside white on black,
#   in one dataset. There is no warning; the opened image still has tag 262 = 0 in both cases.
#   tifffile gives the stored numbers of both, as it says of itself.
# Instead: look at image.tag_v2[262] of I;16 images and subtract from 65535 where it is 0.
set -eu
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
cd "$room"
"$room/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import numpy as np
import tifffile
from PIL import Image

eight = np.array([[0, 64, 255]] * 3, dtype=np.uint8)
sixteen = eight.astype(np.uint16) * 257
seen = {}
for name, pixels in {"8 bits": eight, "16 bits": sixteen}.items():
    tifffile.imwrite(f"{name}.tif", pixels, photometric="miniswhite")
    with Image.open(f"{name}.tif") as image:
        tag = image.tag_v2[262]
        seen[name] = (image.mode, np.asarray(image)[0].tolist(), tag)
    print(name, "stored", pixels[0].tolist(), "Pillow", seen[name])
    assert np.array_equal(tifffile.imread(f"{name}.tif"), pixels)
sys.exit(
    seen
    != {
        "8 bits": ("L", [255, 191, 0], 0),
        "16 bits": ("I;16", [0, 16448, 65535], 0),
    }
)
PYTHON
