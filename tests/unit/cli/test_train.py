from __future__ import annotations

import pytest

from datagen.cli.train import _refine_epochs, _seconds
from datagen.errors import InvalidRequest


@pytest.mark.parametrize(
    ("refine", "epochs", "expected"),
    [
        (None, None, None),
        (None, 0, 0),
        (None, 3, 3),
        (True, None, None),
        (True, 3, 3),
        (False, None, 0),
        (False, 0, 0),
    ],
)
def test_refine_and_its_epochs_come_to_one_number(refine, epochs, expected):
    assert _refine_epochs(refine, epochs) == expected


@pytest.mark.parametrize(("refine", "epochs"), [(True, 0), (False, 2)])
def test_refine_and_its_epochs_that_contradict_each_other_are_refused(refine, epochs):
    with pytest.raises(InvalidRequest, match=f"--refine-epochs {epochs} contradict"):
        _refine_epochs(refine, epochs)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("5m", 300.0), ("1.5h", 5400.0)])
def test_time_budget_is_read_with_its_unit(text, seconds):
    assert _seconds(text) == seconds


@pytest.mark.parametrize("text", ["5", "m", "-3s", "5 minutes", "1e3s", ""])
def test_time_budget_without_a_unit_is_refused(text):
    with pytest.raises(InvalidRequest, match="such as 90s, 5m or 2h"):
        _seconds(text)
