#!/bin/sh
# roboflow 1.7.3: the split of an image is found anywhere in its path, and `val` is train.
#
# Expected: in the folder that upload_dataset is given, the first folder of a path names the split
# (train, valid or val, test), and the last one the class.
# Seen: parsefolder looks for the letters "valid", then "train", then "test" in the whole path, file
# name included, and takes train where it finds none. Of one image each:
#   train/invalid/1.png -> valid      the class is called invalid
#   test/strain/2.png   -> train      the class is called strain: a test image trains
#   test/ok/retrain.png -> train      the file is called so: a test image trains
#   val/ok/4.png        -> train      the validation images of the usual layout train
#   The labels are right, and nothing is said.
# Instead: call the folder `valid`, look over class and file names for the three words, and count the
# images of each split after parsefolder, before uploading.
set -eu
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet --disable-pip-version-check roboflow==1.7.3 pillow==13.0.0
cd "$room"
"$room/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from pathlib import Path

from PIL import Image
from roboflow.util.folderparser import parsefolder

SEEN = {
    "/test/ok/3.png": "test",
    "/test/ok/retrain.png": "train",
    "/test/strain/2.png": "train",
    "/train/invalid/1.png": "valid",
    "/train/ok/5.png": "train",
    "/val/ok/4.png": "train",
    "/valid/ok/6.png": "valid",
}
root = Path("splits")
for name in SEEN:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), 90).save(path)
images = parsefolder(str(root), is_classification=True)["images"]
splits = {image["file"]: image["split"] for image in images}
labels = {
    image["file"]: image["annotationfile"]["classification_label"] for image in images
}
for name, split in sorted(splits.items()):
    print(name, split, labels[name])
sys.exit(splits != SEEN or labels != {name: name.split("/")[2] for name in SEEN})
PYTHON
