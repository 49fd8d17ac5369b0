from __future__ import annotations

import pytest
from pydantic import ValidationError

from datagen.schemas import JobCreate, PipelineApply
from datagen.texts import depth_of, replace_surrogates, unfit_character

HALF = "\ud800"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("plain é \N{GRINNING FACE} \ufffd", None),
        (f"a{HALF}b", HALF),
        ("\udfff", "\udfff"),
        ("a\0b", "\0"),
        ({"a": [1, None, {"b": ["c", HALF]}]}, HALF),
        ({"a": {HALF: 1}}, HALF),
        ((3.5, b"\0", True), None),
    ],
)
def test_text_that_cannot_be_kept_is_found_at_any_depth(value: object, found: str | None) -> None:
    assert unfit_character(value) == found


def test_depth_beyond_the_stack_of_the_interpreter_is_looked_at() -> None:
    value: object = HALF
    for _ in range(50_000):
        value = [value]

    assert unfit_character(value) == HALF


@pytest.mark.parametrize(
    ("value", "depth"), [("a", 0), ({}, 1), ({"a": 1, "b": [[2]]}, 3), ([{}, {"a": []}], 3)]
)
def test_depth_is_that_of_the_deepest_part(value: object, depth: int) -> None:
    assert depth_of(value) == depth


def test_lone_surrogates_are_replaced_in_texts_and_names() -> None:
    value = {"a": [HALF, {f"x{HALF}": "b"}], "c": 1}

    assert replace_surrogates(value) == {"a": ["\ufffd", {"x\ufffd": "b"}], "c": 1}
    assert replace_surrogates(HALF) == "\ufffd"


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"model": HALF, "all": 1}, "model"),
        ({"model": "m", "labels": {HALF: 1}}, "labels"),
        ({"model": "m", "all": 1, "metadata": {"a": {"b": ["\0"]}}}, "metadata"),
        ({"model": "m", "all": 1, "metadata": {HALF: 1}}, "metadata"),
        ({"model": "m", "all": 1, HALF: 1}, "name of a field"),
    ],
)
def test_a_request_with_such_text_is_refused_by_the_name_of_its_field(
    wanted: dict[str, object], field: str
) -> None:
    with pytest.raises(ValidationError, match=field):
        JobCreate.model_validate(wanted)


def test_a_recipe_with_such_text_below_is_refused() -> None:
    recipe = {"name": "n", "source": {"dataset": f"d{HALF}"}, "model": "m", "plan": {"fill": 1}}

    with pytest.raises(ValidationError, match="'source' holds"):
        PipelineApply.model_validate(recipe)
