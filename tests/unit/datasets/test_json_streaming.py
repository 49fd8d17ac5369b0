import io
import json

import pytest

from datagen.datasets.json_streaming import MAX_VALUE_CHARS, json_parts
from datagen.errors import InvalidFile


def parts(text: str | bytes) -> list:
    data = text if isinstance(text, bytes) else text.encode()
    return list(json_parts(io.BytesIO(data), "labels.json", "labels"))


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({}, []),
        ({"a": [1, {"b": 2}], "labels": None}, [(("a",), [1, {"b": 2}]), (("labels",), None)]),
        (
            {"labels": {"x": 1, "y": {"label": 2}}, "b": -12.5},
            [
                (("labels",), {}),
                (("labels", "x"), 1),
                (("labels", "y"), {"label": 2}),
                (("b",), -12.5),
            ],
        ),
        (
            {"labels": [["x", 1], ["ü", 2]]},
            [(("labels",), []), (("labels", "0"), ["x", 1]), (("labels", "1"), ["ü", 2])],
        ),
        ({"labels": {}}, [(("labels",), {})]),
        ({"labels": []}, [(("labels",), [])]),
        ({"labels": 3}, [(("labels",), 3)]),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_members_come_one_by_one(document, found, indent):
    assert parts(json.dumps(document, indent=indent)) == found
    assert parts(b"\xef\xbb\xbf" + json.dumps(document, ensure_ascii=False).encode()) == found


def test_values_are_whole_wherever_the_pieces_that_are_read_end():
    for shift in range(20):
        labels = {f"{number:05d}" + "x" * shift: 10**9 + number for number in range(9000)}
        found = parts(json.dumps({"labels": labels}))[1:]
        assert {place[1]: value for place, value in found} == labels


def test_long_value_is_read_whole():
    names = [f"class {number}" for number in range(100_000)]

    assert parts(json.dumps({"classes": names})) == [(("classes",), names)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "'' stands where '{' should"),
        ("[1]", r"'\[' stands where '{' should"),
        ('{"labels": {"x": 1', "stands where"),
        ('{"labels": [1 2]}', "'2' stands where ',' should"),
        ('{"labels": {1: 2}}', "the key '1' is not text"),
        ('{"labels": {"x": nothing}}', "Expecting value"),
        ('{"labels": {"x": 1},}', "Expecting value"),
        ('{"a": 1} {}', "goes on after its end"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        (b'{"a": "\xff"}', "decode"),
        ('{"a": "' + "x" * MAX_VALUE_CHARS * 2, "Unterminated string"),
    ],
    ids=range(11),
)
def test_damage_is_an_error(text, told):
    with pytest.raises(InvalidFile, match=rf"labels.json is not a readable JSON.*{told}"):
        parts(text)
