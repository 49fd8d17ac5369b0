"""Recipe files: what is read of YAML, and what is refused."""

from __future__ import annotations

import json

import pytest

from datagen.errors import InvalidRequest, MalformedRequest
from datagen.recipes import MAX_BYTES, read_recipe, written
from datagen.schemas import PipelineApply

NIGHTLY = b"""\
name: nightly
source: {dataset: defects}
model: defects
plan: {fill: 5000}
seed: 5
deliver: [{format: imagefolder, merge: true}]
schedule: {cron: "0 2 * * *", timezone: Europe/Berlin}
"""


def test_file_that_users_write_is_a_recipe_and_comes_back_as_one():
    found = read_recipe(NIGHTLY)
    recipe = PipelineApply.model_validate(found)
    assert (recipe.plan.fill, recipe.deliver[0].merge, recipe.seed) == (5000, True, 5)
    assert read_recipe(written(found).encode()) == found
    assert read_recipe(json.dumps(found).encode()) == found


def test_words_are_words_and_not_what_yaml_once_took_them_for():
    found = read_recipe(
        b"on: failure\nyes: no\ntime: 12:30\nday: 2026-01-01\nlabels: {1: 5, 07: 2}\noff: 0755"
    )
    assert found == {
        "on": "failure",
        "yes": "no",
        "time": "12:30",
        "day": "2026-01-01",
        "labels": {"1": 5, "07": 2},
        "off": "0755",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a: &a [x]\nb: [*a, *a]", r"'\*a' is an alias; write the value out \(line 2, column 5\)"),
        (b"a: !!python/object/apply:os.system [ls]", "is a tag; leave it out"),
        (b"a: !!binary aGk=", "is a tag"),
        (b"<<: *x", r"'\*x' is an alias"),
        (b"a: 1\na: 2", "'a' stands there twice"),
        (b"[" * 5000, "more than 20 levels"),
        (b"{a: " * 5000, "more than 20 levels"),
        (b"a: 1\n---\nb: 2", "expected a single document"),
        (b"a: [1,\n", "cannot be read"),
        (b"? [a]\n: b", "a key is no text"),
        (b"- 1", "is no mapping"),
        (b"", "is no mapping"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"a: \x00", "special characters"),
        (b"a: " + b"x" * MAX_BYTES, "are the most"),
    ],
)
def test_what_yaml_can_be_abused_for_is_refused(text, words):
    with pytest.raises(MalformedRequest, match=words):
        read_recipe(text)


def test_number_that_none_has_is_refused():
    with pytest.raises(InvalidRequest, match="too many digits"):
        read_recipe(b"seed: " + b"9" * 5000)
