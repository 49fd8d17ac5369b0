from __future__ import annotations

import pytest

from datagen.cli.output import exit_code, print_fields, print_table, progress
from datagen.errors import (
    Conflict,
    DatagenError,
    HomeUnusable,
    InvalidFile,
    InvalidRequest,
    NotFound,
    QuotaExceeded,
    UnknownLabel,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (InvalidRequest, 2),
        (UnknownLabel, 2),
        (InvalidFile, 1),
        (QuotaExceeded, 1),
        (NotFound, 1),
        (Conflict, 1),
        (HomeUnusable, 1),
        (DatagenError, 1),
    ],
)
def test_wrong_values_are_usage_and_all_else_has_failed(
    kind: type[DatagenError], code: int
) -> None:
    assert exit_code(kind("Why.")) == code


def test_table_in_a_pipe_is_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["a", "b"], [(1, "x y"), (2, None)])
    assert capsys.readouterr().out == "1\tx y\n2\tNone\n"


def test_fields_stand_in_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"a": 1, "long": None})
    assert capsys.readouterr().out == "a:    1\nlong: -\n"


def test_progress_in_a_pipe_is_a_few_lines_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress("making") as tell:
        for done in range(1001):
            tell(done, 1000)
        tell(1000, 1000)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "making: 0 of 1,000 images\nmaking: 1,000 of 1,000 images\n"
