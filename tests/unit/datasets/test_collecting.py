from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from layouts import lay
from PIL import Image
from reading import opened

from datagen.datasets.collecting import collect
from datagen.datasets.reading import ReadOptions, ReadReport
from datagen.datasets.source import Block, Entry, Source
from datagen.errors import InvalidFile


def picture(value=7, size=(4, 3), mode="L", kind="PNG", **options):
    out = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(out, kind, **options)
    return out.getvalue()


def dancing():
    frames = [Image.new("L", (4, 3), value) for value in (0, 255)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


BAD = {
    "cut.png": picture(size=(60, 60))[:-30],
    "zero.png": b"",
    "dance.gif": dancing(),
    "bomb.png": picture(size=(9000, 9000)),
    "text.jpg": b"no picture at all",
    "pickle.png": b"\x80\x04K\x01.",
}


@pytest.mark.parametrize("name", BAD)
def test_file_that_cannot_be_read_refuses_the_dataset_by_name(tmp_path, name):
    lay(tmp_path, **{"a/good.png": picture(), f"a/{name}": BAD[name]})

    with pytest.raises(InvalidFile, match=name) as raised:
        opened(tmp_path)
    assert "good" not in raised.value.detail
    assert "on_error=skip" in raised.value.detail


def test_files_that_cannot_be_read_are_left_out_when_asked_and_listed(tmp_path):
    good = {f"a/good{number}.png": picture(number) for number in range(3)}
    lay(tmp_path, **(good | {f"a/{name}": content for name, content in BAD.items()}))

    found = opened(tmp_path, on_error="skip")
    assert found.splits["train"].images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert found.report.skipped_count == len(BAD)
    assert {problem["name"] for problem in found.report.skipped} == {f"a/{name}" for name in BAD}
    assert all(problem["name"] in problem["reason"] for problem in found.report.skipped)


def test_dataset_of_which_nothing_is_left_is_refused(tmp_path):
    lay(tmp_path, **{f"a/{name}": content for name, content in BAD.items()})

    with pytest.raises(InvalidFile, match="no image that can be read"):
        opened(tmp_path, on_error="skip")


def test_five_problems_are_named_and_the_rest_is_not_read(tmp_path):
    lay(tmp_path, **{f"a/{number}.png": b"x" for number in range(9)})

    with pytest.raises(InvalidFile) as raised:
        opened(tmp_path)
    assert [f"a/{number}.png" in raised.value.detail for number in range(9)] == [True] * 5 + [
        False
    ] * 4


@pytest.mark.parametrize("grey_first", [5, 5000])
def test_colour_that_comes_late_turns_all_that_came_before(tmp_path, grey_first):
    grey = (np.arange(grey_first) % 251).astype(np.uint8).reshape(-1, 1, 1, 1)
    colour = np.array([[[[1]], [[2]], [[3]]]], dtype=np.uint8)
    pieces = [Block(grey, ["a"] * grey_first), Block(colour, ["b"]), Block(grey[:2], ["a", "a"])]

    found = collect(Source(iter(pieces)), ReadOptions(), tmp_path, report := ReadReport())

    assert found.images.shape == (grey_first + 3, 3, 1, 1)
    assert np.array_equal(found.images[:grey_first], np.repeat(grey, 3, axis=1))
    assert found.images[grey_first].ravel().tolist() == [1, 2, 3]
    assert np.array_equal(found.images[-2:], np.repeat(grey[:2], 3, axis=1))
    assert (
        f"Grey images beside colour ones, converted to RGB: {grey_first + 2:,}." in report.notes[0]
    )


def test_images_keep_the_names_of_their_files(tmp_path):
    entries = [
        Entry("a/ü.png", "a", picture(1)),
        Entry("data.parquet row 7", "b", picture(2), file="b/seven.png"),
    ]
    block = Block(np.ones((3, 1, 3, 4), np.uint8), ["a"] * 3, name="x.npz: images", first=40)

    found = collect(Source(iter([entries, block])), ReadOptions(), tmp_path, ReadReport())

    assert found.names.texts(0, 5) == [
        "a/ü.png",
        "b/seven.png",
        "x.npz: images[40]",
        "x.npz: images[41]",
        "x.npz: images[42]",
    ]


def test_what_was_done_to_images_is_noted(tmp_path):
    clear = io.BytesIO()
    Image.new("RGBA", (4, 3), (0, 0, 0, 0)).save(clear, "PNG")
    deep = io.BytesIO()
    Image.fromarray(np.full((3, 4), 65535, dtype=np.uint16)).save(deep, "PNG")
    lay(tmp_path, **{"a/1.png": clear.getvalue(), "a/2.png": deep.getvalue()})

    notes = " ".join(opened(tmp_path).report.notes)
    assert "Images with transparency, which was laid over white: 1." in notes
    assert (
        "16-bit values in uint16, scaled by 65535: 1 image (values from 65535 to 65535)." in notes
    )


# What is allocated by Python and NumPy: pages of a mapped file are not memory that a dataset takes,
# and systems count them with that of a process.
_MEMORY = """
import sys, tempfile, tracemalloc
from pathlib import Path
from datagen.datasets.opening import open_dataset
from datagen.datasets.reading import ReadOptions
from datagen.datasets.stored import digests_of, write_split

tracemalloc.start()
with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as out:
    found = open_dataset(Path(sys.argv[1]), ReadOptions(), Path(scratch))
    digests_of(found.splits, found.names)
    for name, images in found.splits.items():
        write_split(Path(out, name), images, found.names[name])
    total = sum(images.images.nbytes for images in found.splits.values()) / 2**20
    print(total, tracemalloc.get_traced_memory()[1] / 2**20)
"""


def test_memory_does_not_grow_with_the_dataset(tmp_path):
    count, side = 6000, 256
    rows = np.random.default_rng(0).integers(0, 256, (count, side), dtype=np.uint8)
    # 393 MB of pixels that take little room in the file: each image repeats one row of its own.
    images = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (count, side, side))
    images[:] = rows[:, None, :]
    images.flush()
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(count) % 3)
    del images
    (tmp_path / "x.npy").unlink()

    ran = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(tmp_path / "x.npz")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"MALLOC_ARENA_MAX": "2"},
    )
    total, grown = map(float, ran.stdout.split())
    assert total > 370
    assert grown < 100
