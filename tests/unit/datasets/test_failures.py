from __future__ import annotations

import struct
import subprocess
import sys

import pytest
from layouts import lay
from reading import opened

from datagen.datasets import detect
from datagen.datasets.failures import library_errors_named
from datagen.datasets.packing import pack
from datagen.errors import InvalidFile

ERRORS = [
    AttributeError("'str' object has no attribute 'get'"),
    KeyError("labels"),
    OverflowError("too large"),
    RecursionError("too deep"),
    TypeError("unhashable type: 'list'"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    struct.error("unpack requires a buffer of 4 bytes"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_error_of_a_library_is_a_sentence_where_a_dataset_is_read_or_sent(
    tmp_path, monkeypatch, error
):
    def broken(_):
        raise error

    source = lay(tmp_path / "in", "a/0.png")
    monkeypatch.setattr(detect.imagefolder, "find", broken)

    for step in (lambda: opened(source), lambda: pack(source, tmp_path / "out")):
        with pytest.raises(InvalidFile, match=f"{type(error).__name__}, .*; it is damaged"):
            step()


def test_error_of_ours_is_left_as_it_is():
    with pytest.raises(InvalidFile, match=r"^Plain$"), library_errors_named():
        raise InvalidFile("Plain")


def test_traceback_is_shown_to_nobody_who_set_up_no_logs():
    code = (
        "from datagen.datasets.failures import library_errors_named as named\n"
        "try:\n    with named(): [].missing\nexcept Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "AttributeError" in done.stdout
    assert done.stderr == ""
