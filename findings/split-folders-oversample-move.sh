#!/bin/sh
# split-folders 0.6.1: fixed(oversample=True, move=True) renames images where it should repeat them.
#
# Expected: with move=True the originals go into the splits, and oversampling then repeats images of
# small classes until every class has as many training images as the largest.
# Seen: the repetition moves too. Classes of 10 and 9 images, one each for validation and test:
#   move=False   8 and 8 training images, one of the second class twice
#   move=True    8 and 7 training images; one is now called like a copy (4_0.png), without its original
#   and nothing is said. With more to repeat, the same image is chosen again, and a FileNotFoundError
#   ends the run after the originals have left their folder (classes of 40 and 4: seen).
# Instead: oversample with move=False, and delete the originals afterwards.
set -eu
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet --disable-pip-version-check split-folders==0.6.1
cd "$room"
"$room/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from pathlib import Path

import splitfolders


def counts(name: str, *, sizes: tuple[int, int], move: bool) -> tuple[int, int, int]:
    """Training images of both classes, and the contents among those of the second."""
    for label, size in zip("ab", sizes, strict=True):
        folder = Path(name, "in", label)
        folder.mkdir(parents=True)
        for number in range(size):
            (folder / f"{number}.png").write_text(f"{label}{number}")
    splitfolders.fixed(
        f"{name}/in", output=f"{name}/out", fixed=(1, 1), oversample=True, move=move
    )
    first, second = (list(Path(name, "out", "train", label).iterdir()) for label in "ab")
    return len(first), len(second), len({path.read_text() for path in second})


copied = counts("copied", sizes=(10, 9), move=False)
moved = counts("moved", sizes=(10, 9), move=True)
try:
    counts("many", sizes=(40, 4), move=True)
    failed = False
except FileNotFoundError:
    failed = True
left = sum(path.is_file() for path in Path("many", "in").rglob("*"))
print("copied", copied, "moved", moved, "many failed", failed, "originals left", left)
sys.exit(copied != (8, 8, 7) or moved != (8, 7, 7) or not failed or left != 0)
PYTHON
