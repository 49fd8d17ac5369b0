from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.datasets.collecting import Collected
from datagen.datasets.names import Names
from datagen.datasets.reading import ReadOptions, ReadReport
from datagen.datasets.splitting import arrange, shared_out
from datagen.errors import InvalidFile, InvalidRequest
from datagen.schemas import SPLITS

NONE = -1


def names_of(values):
    texts = [str(value).encode() for value in values]
    ends = np.cumsum([len(text) for text in texts])
    return Names(np.frombuffer(b"".join(texts), np.uint8), ends)


def collected(values, labels, splits=None, classes=("a", "b", "c")):
    """Images of one pixel each."""
    count = len(values)
    return Collected(
        images=np.array(values, dtype=np.uint8).reshape(count, 1, 1, 1),
        labels=np.array(labels, dtype=np.int64),
        splits=np.full(count, NONE, np.int8) if splits is None else np.array(splits, np.int8),
        class_names=classes,
        names=names_of(values),
    )


def values_in(found):
    return {name: images.images.ravel().tolist() for name, images in found.splits.items()}


def test_every_class_is_shared_out_exactly(tmp_path):
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    found = arrange(
        collected(np.arange(160), labels), ReadOptions(), tmp_path, report := ReadReport()
    )

    assert {name: images.counts().tolist() for name, images in found.splits.items()} == {
        "train": [80, 40, 8],
        "validation": [10, 5, 1],
        "test": [10, 5, 1],
    }
    assert "128 train, 16 validation, 16 test" in report.notes[0]


def test_shares_that_are_no_exact_binary_numbers_work():
    labels = np.zeros(10, dtype=np.int64)
    options = ReadOptions(shares={"train": 0.7, "validation": 0.2, "test": 0.1})

    splits = shared_out(labels, np.arange(10), options)
    assert np.bincount(splits).tolist() == [7, 2, 1]


def test_seed_decides_which_images_go_where(tmp_path):
    data = collected(np.arange(60), np.zeros(60, int), classes=("a",))
    one, same, other = (
        values_in(arrange(data, ReadOptions(seed=seed), tmp_path, ReadReport()))
        for seed in (1, 1, 2)
    )

    assert one == same != other


@given(
    values=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    seed=st.integers(0, 99),
    train=st.sampled_from([0.5, 0.8, 1.0]),
)
def test_no_image_ever_stands_on_two_sides(values, seed, train):
    rest = round(1 - train, 6)
    options = ReadOptions(shares={"train": train, "test": rest}, seed=seed)
    group = np.unique(values, return_inverse=True)[1]
    labels = np.array(values) % 3

    splits = shared_out(labels, group, options)

    assert all(len(set(splits[group == number])) == 1 for number in range(group.max() + 1))
    for label in np.unique(labels):
        # Copies under one label only here, so every class has something to train on.
        assert (splits[labels == label] == 0).any()


def test_copies_under_other_labels_stay_together_and_are_noted(tmp_path):
    data = collected([5, 5, 1, 2, 3, 4] * 5, [0, 1, 0, 1, 0, 1] * 5, classes=("a", "b"))
    found = arrange(data, ReadOptions(seed=3), tmp_path, report := ReadReport())

    sides = [name for name, values in values_in(found).items() if 5 in values]
    assert len(sides) == 1
    assert (report.duplicates, report.conflicting) == (25, 1)


def test_given_splits_stay_and_copies_leave_the_training_side(tmp_path):
    # 1 stands in train and test, 2 in train and validation, 3 in validation and test.
    data = collected([1, 2, 9, 2, 3, 1, 3, 8], [0, 1, 2, 1, 2, 0, 2, 1], [0, 0, 0, 1, 1, 2, 2, 2])
    found = arrange(data, ReadOptions(), tmp_path, report := ReadReport())

    assert values_in(found) == {"train": [9], "validation": [2], "test": [1, 3, 8]}
    assert {name: names.texts(0, len(names)) for name, names in found.names.items()} == {
        "train": ["9"],
        "validation": ["2"],
        "test": ["1", "3", "8"],
    }
    assert report.moved == {"train": 2, "validation": 1}
    assert any(
        "Images of train that are in a split for measuring" in note and note.endswith(": 2.")
        for note in report.notes
    )


def test_copies_within_a_split_stay_and_are_counted(tmp_path):
    found = arrange(
        collected([1, 1, 1, 2], [0, 0, 0, 1], [0, 0, 0, 2]),
        ReadOptions(),
        tmp_path,
        r := ReadReport(),
    )

    assert values_in(found) == {"train": [1, 1, 1], "test": [2]}
    assert (r.duplicates, r.moved, r.conflicting) == (2, {}, 0)


def test_training_split_alone_is_never_split_again(tmp_path):
    found = arrange(collected([1, 2, 3], [0, 1, 2], [0] * 3), ReadOptions(), tmp_path, ReadReport())

    assert values_in(found) == {"train": [1, 2, 3]}


@pytest.mark.parametrize(
    ("splits", "told"),
    [([1, 1, 2], "No image is in the split train"), ([0, NONE, 2], "1 of the 3 images name no")],
)
def test_splits_that_leave_nothing_to_train_on_are_refused(tmp_path, splits, told):
    with pytest.raises(InvalidFile, match=told):
        arrange(collected([1, 2, 3], [0, 1, 2], splits), ReadOptions(), tmp_path, ReadReport())


def test_a_class_of_one_image_is_trained_on_and_noted(tmp_path):
    found = arrange(
        collected(np.arange(11), [0] * 10 + [1], classes=("many", "one")),
        ReadOptions(),
        tmp_path,
        report := ReadReport(),
    )

    assert found.splits["train"].counts().tolist() == [8, 1]
    assert any("Classes with one image to train on: 'one'" in note for note in report.notes)


def test_classes_without_training_images_are_all_named_and_those_beyond_counted(tmp_path):
    classes = tuple(f"c{number}" for number in range(30))
    for known, told in (
        (classes[:8], "'c1', 'c2', 'c3', 'c4', 'c5', 'c6' and 'c7'; a model"),
        (classes, "'c20' and 9 more; a model"),
    ):
        found = collected([1, 2, 3], [0, 0, 1], [0, 0, 2], classes=known)
        arrange(found, ReadOptions(), tmp_path, report := ReadReport())
        assert any(told in note and "does not learn them" in note for note in report.notes)


def test_one_class_only_is_noted(tmp_path):
    arrange(collected([1, 2], [0, 0], classes=("a",)), ReadOptions(), tmp_path, r := ReadReport())

    assert any("one class only, 'a'" in note for note in r.notes)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"size": 0}, "size"),
        ({"size": 2000}, "size"),
        ({"pad": True}, "pad"),
        ({"on_error": "shrug"}, "on_error"),
        ({"shares": {"train": 0.5, "test": 0.4}}, "split"),
        ({"shares": {"train": 0.0, "test": 1.0}}, "split"),
        ({"shares": {"train": 0.5, "later": 0.5}}, "split"),
        ({"shares": {"train": 1.5, "test": -0.5}}, "split"),
    ],
)
def test_options_that_cannot_be_used_are_refused(wrong, field):
    with pytest.raises(InvalidRequest) as raised:
        ReadOptions(**wrong)
    assert raised.value.field == field


def test_names_of_splits_are_in_the_order_of_their_use():
    assert SPLITS == ("train", "validation", "test")
