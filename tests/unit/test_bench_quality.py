"""What the benchmark of quality counts; the tracks themselves take hours."""

from __future__ import annotations

import json
from importlib import import_module

import numpy as np
import pytest
from scipy import stats

from benchmarks.quality import __main__ as quality
from benchmarks.quality import classifiers, colour, paired, results, track_b
from datagen.work import recipe


def test_figures_of_an_imbalanced_set_are_means_over_classes():
    labels = np.array([0, 0, 0, 0, 1, 1])
    found = np.array([0, 0, 0, 1, 1, 0])
    counted = classifiers.counted(found, labels, 2)

    assert counted.accuracy == pytest.approx(4 / 6)
    assert counted.per_class == [0.75, 0.5]
    assert counted.acsa == pytest.approx(0.625)
    assert counted.gm == pytest.approx(np.sqrt(0.75 * 0.5))
    assert counted.f1 == pytest.approx((0.75 + 0.5) / 2)


def test_class_that_is_never_found_counts_as_nothing():
    counted = classifiers.counted(np.zeros(4, np.int64), np.array([0, 0, 1, 1]), 2)

    assert (counted.acsa, counted.gm) == (0.5, 0.0)
    assert counted.f1 == pytest.approx((2 / 3) / 2)


def test_gain_is_paired_by_seed_with_the_interval_of_students_t():
    ours, theirs = [0.95, 0.97, 0.96], [0.94, 0.95, 0.955]
    found = paired.gain(ours, theirs)
    low, high = stats.ttest_rel(ours, theirs).confidence_interval()

    assert found["value"] == pytest.approx(100 * np.mean(np.subtract(ours, theirs)))
    assert (found["low"], found["high"]) == pytest.approx((100 * low, 100 * high))
    assert "low" not in paired.gain([0.9], [0.8])


@pytest.mark.parametrize("kind", ["logistic", "mlp", "cnn", "small_cnn", "resnet18"])
def test_classifiers_give_a_logit_for_each_class(kind):
    import torch  # noqa: PLC0415

    network = classifiers.CLASSIFIERS[kind](1, 28, 10).eval()
    with torch.no_grad():
        assert network(torch.rand(3, 1, 28, 28)).shape == (3, 10)


@pytest.mark.parametrize("track", ["a", "b", "c"])
def test_cells_of_a_track_have_names_of_their_own(track):
    module = import_module(f"benchmarks.quality.track_{track}")
    names = [name for phase in module.phases(2) for name in phase]

    assert len(names) == len(set(names))
    assert len(names) == 2 * len([name for phase in module.phases(1) for name in phase])
    # A table of nothing has all its rows, and no figures.
    assert len(module.table({})) > 5
    json.dumps(module.SETTINGS)


def test_generator_that_is_not_kept_is_trained_again_where_a_cell_needs_it(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    found = results.Results("B", track_b.SETTINGS)
    phases = track_b.phases(2)
    for name in (name for phase in phases for name in phase):
        found.cells[name] = {}
    assert quality.missing(track_b, phases, found, tmp_path) == [[], [], []]

    del found.cells["1/small_cnn/ours"]
    lacking = quality.missing(track_b, phases, found, tmp_path)
    assert lacking == [["1/generator"], ["1/small_cnn/ours"], []]

    (tmp_path / "B-1").mkdir()
    (tmp_path / "B-1" / recipe.JUDGE).touch()
    lacking = quality.missing(track_b, phases, found, tmp_path)
    assert lacking == [[], ["1/small_cnn/ours"], []]


def test_results_go_on_with_the_same_settings_and_no_others(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    first = results.Results("X", {"steps": 3, "counts": (1, 2)})
    first.add("0/real", {"accuracy": 0.5})

    again = results.Results("X", {"steps": 3, "counts": (1, 2)})
    assert again.cells["0/real"]["accuracy"] == 0.5
    assert again.cells["0/real"]["commit"]
    with pytest.raises(SystemExit, match="other settings"):
        results.Results("X", {"steps": 4, "counts": (1, 2)})
    assert results.Results("X", {"steps": 4}, anew=True).cells == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quality-X.json"]


@pytest.mark.parametrize("name", ["shapes", "things"])
def test_colour_sets_are_the_same_for_the_same_seed(name):
    images, labels, names = colour.made(name, 3, seed=1)
    again, _, _ = colour.made(name, 3, seed=1)
    other, _, _ = colour.made(name, 3, seed=2)

    assert np.array_equal(images, again)
    assert not np.array_equal(images, other)
    assert len(names) == 10
    assert np.bincount(labels).tolist() == [3] * 10
    assert images.dtype == np.uint8
    assert images.shape == (30, 3, *((32, 32) if name == "shapes" else (64, 64)))
