from __future__ import annotations

import numpy as np
import pytest

from datagen.quality.fidelity import fidelity, share_interval


def test_agreement_and_confusion_are_counted_per_label():
    labels = np.array([0, 0, 0, 0, 2, 2])
    found = fidelity(labels, np.array([0, 0, 0, 1, 2, 0]), 3)

    assert found.confusion.tolist() == [[3, 1, 0], [0, 0, 0], [1, 0, 1]]
    assert found.agreement == pytest.approx(4 / 6)
    assert found.per_class[[0, 2]].tolist() == [0.75, 0.5]
    assert np.isnan(found.per_class[1])
    assert found.balanced == pytest.approx(0.625)


def test_shuffled_labels_agree_by_chance():
    random = np.random.default_rng(0)
    truth = np.arange(20_000) % 10
    found = fidelity(random.permutation(truth), truth, 10)

    low, high = share_interval(found.agreement, len(truth))
    assert low < 0.1 < high
    assert found.balanced == pytest.approx(0.1, abs=0.01)


def test_interval_is_wilsons():
    # Wilson's interval of 8 of 10 at 95 %, to four digits.
    assert share_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    low, high = share_interval(1.0, 50)
    assert high == 1.0
    assert 0.9 < low < 1.0
    assert share_interval(0.0, 50)[0] == 0.0


def test_interval_holds_the_truth_about_95_times_of_100():
    random = np.random.default_rng(1)
    held = 0
    for _ in range(1000):
        low, high = share_interval(random.binomial(200, 0.9) / 200, 200)
        held += low <= 0.9 <= high
    assert 0.92 < held / 1000 < 0.98
