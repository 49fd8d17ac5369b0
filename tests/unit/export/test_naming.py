from __future__ import annotations

import re
from itertools import pairwise
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.export.naming import folder_names, stem

# The words and marks by which the `datasets` library finds splits in paths (data_files.py).
SPLIT = re.compile(
    r"(^|[-._ 0-9])(train|training|validation|valid|dev|val|test|testing|eval|evaluation)"
    r"($|[-._ 0-9])"
)


def natural(name: str) -> list[int | str]:
    """By what timm sorts folders (`natural_key` in its `utils/misc.py`)."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name.lower())]


def test_plain_names_stay_as_they_are() -> None:
    names = ["cat", "contest", "katze groß", "red-fox_2", "vale", "ä", "日本"]
    assert folder_names(names) == names


def test_numbers_are_padded_so_that_string_order_is_class_order() -> None:
    folders = folder_names([str(number) for number in range(12)])
    assert folders == sorted(folders)
    assert folders[:3] == ["00", "01", "02"]


def test_numbers_that_padding_would_make_alike_differ_by_their_class() -> None:
    assert folder_names(["1", "01"]) == ["0-1", "1-01"]


@pytest.mark.parametrize(
    "names",
    [
        ["Zebra", "apple", "item1", "item2", "item10"],
        ["apple", "train", "truck"],
        ["zebra", "ant"],
        ["Cat", "cat", "CAT"],
        ["10", "2", "1"],
        ["9", "10", "a"],
        ["item1", "item10", "item2"],
        ["item1", "item01"],
        ["a", "B", "c"],
        ["a-b", "aB", "ab"],
        ["²", "x1³", "y"],
        ["٣", "2"],
        ["ä", "z", "Ä"],
        ["", "a"],
        ["0-b", "1-a"],
        [f"class {number}" for number in range(101)],
    ],
    ids=str,
)
def test_folders_sort_as_the_classes_stand_in_every_loader(names: list[str]) -> None:
    folders = folder_names(names)
    assert sorted(folders) == folders
    # By keys and not by folders: of two alike timm's order is that of a set.
    keys = [natural(folder) for folder in folders]
    assert all(one < other for one, other in pairwise(keys))


def test_number_before_a_name_has_as_many_digits_as_the_last_one() -> None:
    folders = folder_names(list("lkjihgfedcba"))
    assert folders[0] == "00-l"
    assert folders[11] == "11-a"


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("a/b", "a%2Fb"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        (".git", "%2Egit"),
        ("__pycache__", "%5F_pycache__"),
        ("end.", "end%2E"),
        ("50%", "50%25"),
        ("C:\\x", "C%3A%5Cx"),
        ("[a]*?", "%5Ba%5D%2A%3F"),
        ("nul", "%6Eul"),
        ("test", "%74est"),
        ("Train", "%54rain"),
        ("my_val-2", "my_%76al-2"),
        ("eval", "%65%76al"),
        ("\ud800", "%ED%A0%80"),
    ],
)
def test_unsafe_names_are_escaped_as_in_urls(name: str, folder: str) -> None:
    assert folder_names([name]) == [folder]
    if name.isprintable():
        assert unquote(folder) == name


def test_empty_name_gets_a_folder() -> None:
    assert folder_names([""]) == ["%00"]


def test_names_that_a_file_system_takes_for_one_are_made_different() -> None:
    folders = folder_names(["cat", "CAT", "Cat", "e\u0301", "\u00e9"])
    assert folders[0] == "0-cat"
    assert len({folder.casefold() for folder in folders}) == 5
    assert all(re.fullmatch(r".+~[0-9a-f]{8}", folders[place]) for place in (1, 2, 4))


def test_long_names_are_cut_and_stay_different() -> None:
    folders = folder_names(["ä" * 300 + "1", "ä" * 300 + "2"])
    assert len(set(folders)) == 2
    assert all(len(folder.encode()) <= 255 for folder in folders)


@settings(max_examples=50, deadline=None, database=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=6, unique=True))
def test_every_name_becomes_a_distinct_safe_folder(names: list[str]) -> None:
    folders = folder_names(names)
    assert len({folder.casefold() for folder in folders}) == len(names)
    for folder in folders:
        assert 0 < len(folder.encode()) <= 255
        assert "/" not in folder
        assert not folder.startswith((".", "__", " "))
        assert not SPLIT.search(folder.lower())
    assert sorted(folders) == folders
    assert all(natural(one) < natural(other) for one, other in pairwise(folders))


def test_file_names_stand_in_the_order_of_the_indices() -> None:
    names = [stem("", index) + ".png" for index in (0, 9, 10, 99_999_999, 9_999_999_999)]
    assert names == sorted(names)
    assert names[0] == "0000000000.png"
