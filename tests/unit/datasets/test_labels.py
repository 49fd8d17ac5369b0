import re
from decimal import Decimal

import numpy as np
import pytest

from datagen.datasets.labels import label_of


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("cat", "cat"),
        (" a  b ", " a  b "),
        ("1", "1"),
        (b"cat", "cat"),
        ("ü".encode(), "ü"),
        (np.bytes_(b"cat"), "cat"),
        (np.str_("cat"), "cat"),
        (3, "3"),
        (-1, "-1"),
        (True, "1"),
        (np.bool_(False), "0"),
        (np.uint8(7), "7"),
        (2.0, "2"),
        (-0.0, "0"),
        (np.float32(4.0), "4"),
        (Decimal("5.00"), "5"),
        (np.array(6), "6"),
        (None, None),
    ],
)
def test_label_is_the_name_that_it_stands_for(value, name):
    assert label_of(value, None) == name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (0, "cat"),
        (1.0, "dog"),
        (True, "dog"),
        (np.int64(1), "dog"),
        (-1, None),
        (None, None),
        ("dog", "dog"),
        (b"dog", "dog"),
        ("1", "1"),
    ],
)
def test_number_is_the_place_of_a_name_and_text_is_the_name(value, name):
    assert label_of(value, ("cat", "dog")) == name


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([0], "is a list"),
        ((1, 2), "is a list"),
        (np.array([1]), "is a list"),
        ({"name": "cat"}, "is an object with fields"),
        (float("nan"), "is not a number (NaN)"),
        (np.float16("nan"), "is not a number (NaN)"),
        (Decimal("nan"), "is not a number (NaN)"),
        (float("inf"), "is inf, not a whole number"),
        (Decimal("-Infinity"), "is -Infinity, not a whole number"),
        (0.5, "is 0.5, not a whole number"),
        (Decimal("0.5"), "is 0.5, not a whole number"),
        (1e300, "is 1e+300, which is too large to be the number of a class"),
        ("", "is empty text"),
        (b" ", "is empty text"),
        (b"\xff", "is no UTF-8 text"),
        (1j, "is of the type complex"),
        (np.datetime64("2024-01-01"), "is of the type date"),
    ],
)
def test_value_that_names_no_class_is_refused_with_what_it_is(value, reason):
    with pytest.raises(ValueError, match=rf"^{re.escape(reason)}$"):
        label_of(value, None)


@pytest.mark.parametrize("number", [2, -2, 2.0, np.uint64(2**63)])
def test_number_beyond_the_names_is_refused(number):
    with pytest.raises(ValueError, match=rf"is {int(number)}, and 2 classes are named"):
        label_of(number, ("cat", "dog"))
