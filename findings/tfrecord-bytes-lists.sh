#!/bin/sh
# tfrecord 1.14.6: a list of several byte strings loses the zero bytes at their ends.
#
# Expected: a feature of bytes reads back as it was written, one value or many.
# Seen: one value comes as bytes, unchanged; from two on they come as a NumPy array of type S, which
# drops zero bytes at the end of each element. Two raw images of 4 grey pixels:
#   written  [b'\x01\x02\x00\x00', b'\x03\x00\x04\x00']
#   read     [b'\x01\x02', b'\x03\x00\x04']
#   so the black pixels at the end of an image or mask are gone, and the lengths differ. The file is
#   right: the protocol buffer inside has all bytes. There is no warning.
# Instead: one feature for each value, or an encoded image (PNG and JPEG end with other bytes), or pad
# to the known length after reading.
set -eu
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet --disable-pip-version-check tfrecord==1.14.6
cd "$room"
"$room/venv/bin/python" -W ignore - <<'PYTHON'
import sys

from tfrecord import example_pb2
from tfrecord.reader import tfrecord_iterator, tfrecord_loader
from tfrecord.writer import TFRecordWriter

IMAGES = [bytes([1, 2, 0, 0]), bytes([3, 0, 4, 0])]
writer = TFRecordWriter("images.tfrecord")
writer.write({"both": (IMAGES, "byte"), "first": (IMAGES[0], "byte")})
writer.close()

(record,) = tfrecord_loader("images.tfrecord", None, {"both": "byte", "first": "byte"})
both = [bytes(value) for value in record["both"]]
(raw,) = (bytes(view) for view in tfrecord_iterator("images.tfrecord"))
stored = list(example_pb2.Example.FromString(raw).features.feature["both"].bytes_list.value)
print("written", IMAGES)
print("stored ", stored)
print("read   ", both, "alone", record["first"])
unchanged = (
    stored == IMAGES
    and record["first"] == IMAGES[0]
    and both == [bytes([1, 2]), bytes([3, 0, 4])]
)
sys.exit(not unchanged)
PYTHON
