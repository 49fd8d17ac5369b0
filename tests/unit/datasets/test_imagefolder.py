from __future__ import annotations

import io

import numpy as np
import pytest
from layouts import lay
from PIL import Image
from reading import read

from datagen.datasets import limits
from datagen.datasets.collecting import class_order
from datagen.errors import InvalidFile


def picture(value: int = 7, *, size: tuple[int, int] = (4, 3), mode: str = "L") -> bytes:
    """A PNG of one colour; size is width x height."""
    out = io.BytesIO()
    colour = value if mode == "L" else (value, value // 2, 0)
    Image.new(mode, size, colour).save(out, "PNG")
    return out.getvalue()


def test_class_folders_alone_are_the_training_split(tmp_path):
    lay(tmp_path, **{"dog/1.png": picture(1), "cat/2.png": picture(2), "dog/0.png": picture(3)})

    found = read(tmp_path)

    assert list(found) == ["train"]
    assert found["train"].class_names == ("cat", "dog")
    assert found["train"].labels.tolist() == [0, 1, 1]
    assert found["train"].images[:, 0, 0, 0].tolist() == [2, 3, 1]
    assert found["train"].image_shape == (1, 3, 4)


def test_splits_share_the_classes_of_all(tmp_path):
    lay(
        tmp_path,
        **{
            "train/b/1.png": picture(1),
            "val/a/1.png": picture(2),
            "test/c/1.png": picture(3),
            "test/b/1.png": picture(4),
        },
    )

    found = read(tmp_path)

    assert set(found) == {"train", "validation", "test"}
    assert {images.class_names for images in found.values()} == {("a", "b", "c")}
    assert found["train"].labels.tolist() == [1]
    assert found["validation"].labels.tolist() == [0]
    assert found["test"].labels.tolist() == [1, 2]
    assert found["test"].images[:, 0, 0, 0].tolist() == [4, 3]


def test_torchvision_gives_the_same_pixels_and_labels(tmp_path):
    from torchvision.datasets import ImageFolder  # noqa: PLC0415 - loads torch

    rng = np.random.default_rng(5)
    for name in ("a/x.png", "a/sub/y.png", "b/z.png", "b/Z.PNG"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)).save(path)

    ours, theirs = read(tmp_path)["train"], ImageFolder(str(tmp_path))

    assert list(ours.class_names) == theirs.classes
    pairs = {(label, np.asarray(image).tobytes()) for image, label in theirs}
    assert pairs == {
        (label, pixels.transpose(1, 2, 0).tobytes())
        for label, pixels in zip(ours.labels.tolist(), ours.images, strict=True)
    }


def test_classes_named_by_number_are_in_the_order_of_the_numbers():
    assert class_order([str(number) for number in range(12)]) == tuple(map(str, range(12)))
    assert class_order(["10", "-2", "9", "-1"]) == ("-2", "-1", "9", "10")
    assert class_order(["2", "1", "01", "9" * 5000]) == ("01", "1", "2", "9" * 5000)
    assert class_order(["10", "9", "x"]) == ("10", "9", "x")
    assert class_order(["b", "B", "a", "b"]) == ("B", "a", "b")


def test_classes_named_like_splits_are_classes(tmp_path):
    lay(tmp_path, **{f"{name}/1.png": picture() for name in ("train", "test", "cat")})

    assert read(tmp_path)["train"].class_names == ("cat", "test", "train")


def test_one_class_is_enough_and_another_may_be_empty(tmp_path):
    lay(tmp_path, **{"train/only/1.png": picture()})
    (tmp_path / "train" / "none").mkdir()

    found = read(tmp_path)["train"]

    assert found.class_names == ("none", "only")
    assert found.counts().tolist() == [0, 1]


def test_hidden_files_and_files_that_are_no_pictures_count_for_nothing(tmp_path):
    lay(
        tmp_path,
        **{
            "a/1.png": picture(),
            "a/.2.png": b"",
            "a/notes.txt": b"x",
            ".git/1.png": b"",
            "__MACOSX/a/1.png": b"",
            "README.md": b"x",
        },
    )

    found = read(tmp_path)["train"]

    assert (found.class_names, len(found)) == (("a",), 1)


def test_many_kinds_of_pictures_are_read(tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (6, 6), dtype=np.uint8)
    for kind in ("png", "bmp", "gif", "tiff", "webp", "jpeg"):
        options = {"lossless": True} if kind == "webp" else {}
        path = tmp_path / kind / f"x.{kind}"
        path.parent.mkdir()
        Image.fromarray(pixels).save(path, **options)

    found = read(tmp_path)["train"]

    assert found.class_names == ("bmp", "gif", "jpeg", "png", "tiff", "webp")
    exact = [name != "jpeg" for name in found.class_names]
    assert all(np.array_equal(image[0], pixels) for image in found.images[exact])


@pytest.mark.parametrize("order", [("L", "RGB"), ("RGB", "L")])
def test_grey_images_become_colour_beside_colour(tmp_path, order):
    for number, mode in enumerate(order):
        lay(tmp_path, **{f"a/{number}.png": picture(90, mode=mode)})

    found = read(tmp_path)["train"]

    assert found.image_shape == (3, 3, 4)
    assert found.images[order.index("L"), :, 0, 0].tolist() == [90, 90, 90]
    assert found.images[order.index("RGB"), :, 0, 0].tolist() == [90, 45, 0]


def test_images_of_other_sizes_are_listed(tmp_path):
    sizes = {"a/0": (4, 3), "a/1": (5, 3), "b/0": (4, 9), "b/1": (4, 3)}
    lay(tmp_path, **{f"{name}.png": picture(size=size) for name, size in sizes.items()})

    with pytest.raises(
        InvalidFile, match=r"a/0\.png is 4 x 3.*a/1\.png is 5 x 3.*b/0\.png is 4 x 9"
    ):
        read(tmp_path)


def test_splits_of_different_sizes_are_refused(tmp_path):
    lay(tmp_path, **{"train/a/0.png": picture(), "test/a/0.png": picture(size=(9, 9))})

    with pytest.raises(InvalidFile, match=r"test/a/0\.png is 9 x 9"):
        read(tmp_path)


def test_all_broken_images_are_named(tmp_path):
    whole = picture(mode="RGB", size=(40, 40))
    broken = {"zero": b"", "cut": whole[: len(whole) // 2], "text": b"no picture"}
    lay(tmp_path, **{f"a/{name}.png": content for name, content in broken.items()})
    lay(tmp_path, **{"a/good.png": whole})

    with pytest.raises(InvalidFile) as raised:
        read(tmp_path)

    assert all(f"a/{name}.png" in raised.value.detail for name in broken)
    assert "good" not in raised.value.detail
    assert str(tmp_path) not in raised.value.detail


def test_kinds_that_are_not_read_are_not_left_out_silently(tmp_path):
    lay(tmp_path, **{"a/1.png": picture(), "a/2.ppm": b"P6 1 1 255\n\0\0\0"})

    with pytest.raises(InvalidFile, match=r"a/2\.ppm"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"README.md": b""}, "This is no dataset"),
        ({"1.png": picture()}, "The pictures have no labels"),
        ({"train/a/1.png": picture(), "extra/a/1.png": picture()}, "'extra'"),
        ({"val/a/1.png": picture(), "test/a/1.png": picture()}, "no folder `train`"),
        ({"train/a/1.png": picture(), "test/a/x.txt": b""}, "'test' has no class folder"),
        (
            {"train/a/1.png": b"", "val/a/1.png": b"", "validation/a/1.png": b""},
            "'val' and 'validation' two are the same",
        ),
    ],
)
def test_trees_that_mean_nothing_are_explained(tmp_path, files, told):
    lay(tmp_path, **files)

    with pytest.raises(InvalidFile, match=told):
        read(tmp_path)


def test_class_names_that_cannot_be_shown_are_refused(tmp_path):
    lay(tmp_path, **{"a\nb/1.png": picture()})

    with pytest.raises(InvalidFile, match=r"a\\nb"):
        read(tmp_path)


def test_more_pixels_than_fit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_PIXEL_BYTES", 30)
    lay(tmp_path, **{f"a/{number}.png": picture() for number in range(3)})

    with pytest.raises(InvalidFile, match="36 bytes"):
        read(tmp_path)


def test_class_name_beyond_the_limit_is_refused_with_its_length(tmp_path, monkeypatch):
    lay(tmp_path, **{"horse/1.png": picture(1), "cat/2.png": picture(2)})
    monkeypatch.setattr(limits, "MAX_NAME_CHARS", 4)

    with pytest.raises(InvalidFile, match="'horse'… has 5 characters in its name; at most 4"):
        read(tmp_path)

    monkeypatch.setattr(limits, "MAX_NAME_CHARS", 5)
    assert read(tmp_path)["train"].class_names == ("cat", "horse")
