from __future__ import annotations

import re

import pytest

from datagen import errors


def every_class():
    return sorted(
        {
            kind
            for kind in vars(errors).values()
            if isinstance(kind, type) and issubclass(kind, errors.DatagenError)
        },
        key=lambda kind: kind.__name__,
    )


@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: kind.__name__)
def test_problem_type_leads_back_to_the_class_that_made_it(kind):
    problem = kind("The value 3 is too large; give less.").problem_type

    assert problem.startswith("urn:datagen:problem:")
    assert errors.error_for(problem, kind.status) is kind


def test_unknown_problem_type_becomes_the_class_of_its_status():
    assert errors.error_for("urn:datagen:problem:from-the-future", 409) is errors.Conflict
    assert errors.error_for("about:blank", 404) is errors.NotFound


def test_unknown_status_becomes_the_root():
    assert errors.error_for("about:blank", 418) is errors.DatagenError


def test_error_keeps_its_sentence_and_the_field_it_names():
    error = errors.InvalidRequest("'x' is no label; use 'a'.", field="labels")

    assert str(error) == error.detail == "'x' is no label; use 'a'."
    assert error.field == "labels"


def test_tree_in_the_docstring_is_the_tree_in_the_code():
    drawn = dict(re.findall(r"─ (\w+)(?: \((\d+)\))?", errors.__doc__ or ""))

    assert set(drawn) == {kind.__name__ for kind in every_class()} - {"DatagenError"}
    for name, status in drawn.items():
        assert not status or getattr(errors, name).status == int(status)


def test_class_without_a_status_in_the_tree_takes_its_parents():
    assert errors.UnknownLabel.status == errors.InvalidRequest.status
    assert errors.QueueUnavailable.status == errors.Unavailable.status
