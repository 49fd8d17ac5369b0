#!/bin/sh
# cleanvision 0.3.7: no image of 16 bits is ever too dark, and some endings are not looked at.
#
# Expected: Imagelab scores brightness between 0 and 1, and checks the images of a folder in most of
# Pillow's formats.
# Seen: the brightness of a 16-bit image is divided by 255. An image of at most 2 % of its range:
#   8 bits, 0 to 5         dark_score 0.02, is_dark_issue True
#   16 bits, 0 to 1285     dark_score 5.04, is_dark_issue False
#   and in a folder with .png, .tif, .bmp and .jpe, only the .png is in the table of issues; the others
#   are left out without a word, although .tiff is checked.
# Instead: scale to 8 bits before the check, and rename or convert .tif and .bmp; compare the number
# of rows in imagelab.issues with the number of files.
set -eu
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet --disable-pip-version-check cleanvision==0.3.7 pillow==13.0.0 numpy==2.4.6
cd "$room"
"$room/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
from cleanvision import Imagelab
from PIL import Image

random = np.random.default_rng(0)
eight = random.integers(0, 6, (64, 64), dtype=np.uint8)
room = Path("images")
room.mkdir()
Image.fromarray(eight).save(room / "eight.png")
Image.fromarray(eight.astype(np.uint16) * 257).save(room / "sixteen.png")
Image.fromarray(eight).save(room / "a.tiff")
for name in ("b.tif", "c.bmp", "d.jpe"):
    Image.fromarray(eight).save(room / name)

imagelab = Imagelab(data_path=str(room))
imagelab.find_issues({"dark": {}}, n_jobs=1, verbose=False)
issues = imagelab.issues
issues.index = [Path(name).name for name in issues.index]
print(issues[["dark_score", "is_dark_issue"]])
unchanged = (
    set(issues.index) == {"a.tiff", "eight.png", "sixteen.png"}
    and bool(issues.loc["eight.png", "is_dark_issue"])
    and not issues.loc["sixteen.png", "is_dark_issue"]
    and issues.loc["sixteen.png", "dark_score"] > 1
)
sys.exit(not unchanged)
PYTHON
