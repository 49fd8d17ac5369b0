from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import CLASSES, CPU, SHAPE, striped_images

from datagen.quality.evaluator import Evaluator, new_evaluator
from datagen.quality.fidelity import fidelity
from datagen.quality.learning import Learning, Part, learn, predicted
from datagen.quality.usefulness import balanced_accuracy, difference
from datagen.quality.verdict import Findings, verdict

STEPS = Learning(60, batch_size=32)


def taught(parts, seed=0, learning=STEPS):
    network = new_evaluator(SHAPE, CLASSES, seed)
    return learn(network, parts, learning, seed=seed, device=CPU)


def right(network, images, labels):
    return predicted(network, images, CPU).argmax(axis=1) == labels


def test_classifier_learns_what_images_show():
    images, labels = striped_images(300)
    others = striped_images(150, seed=1)

    assert right(taught([Part(images, labels)]), *others).mean() > 0.95


def test_shuffled_labels_teach_chance():
    images, labels = striped_images(300)
    shuffled = np.random.default_rng(0).permutation(labels)
    truth, shown = striped_images(600, seed=1)[1], striped_images(600, seed=1)[0]
    found = predicted(taught([Part(images, labels)]), shown, CPU).argmax(axis=1)
    mixed = np.random.default_rng(1).permutation(truth)

    assert fidelity(truth, found, CLASSES).agreement > 0.95
    assert abs(fidelity(mixed, found, CLASSES).agreement - 1 / CLASSES) < 0.08
    assert right(taught([Part(images, shuffled)]), shown, truth).mean() < 0.75


def test_same_seed_gives_the_same_weights_and_leaves_the_global_state():
    images, labels = striped_images(100)
    before = torch.random.get_rng_state()
    one, two = (taught([Part(images, labels, affine=True)], seed=3) for _ in range(2))
    other = taught([Part(images, labels, affine=True)], seed=4)

    assert torch.equal(torch.random.get_rng_state(), before)
    for mine, its in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(mine, its)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


class _Counting(Evaluator):
    """Notes the images that it is shown."""

    def __init__(self):
        super().__init__(SHAPE, CLASSES)
        self.seen = []

    def forward(self, image):
        self.seen.append((image[:, 0, 0, 0] * 255).round().long())
        return super().forward(image)


def flat(value, count=50, label=0):
    return np.full((count, *SHAPE), value, dtype=np.uint8), np.full(count, label, dtype=np.int64)


@pytest.mark.parametrize(
    ("shares", "counts"), [((0.75, 0.25), (24, 8)), ((0.7, 0.3), (22, 10)), ((1.0, 0.0), (32, 0))]
)
def test_batches_are_mixed_as_asked(shares, counts):
    network = _Counting()
    parts = [
        Part(*flat(value), share=share) for value, share in zip((10, 200), shares, strict=True)
    ]
    learn(network, parts, Learning(3, batch_size=32), seed=0, device=CPU)

    for seen in network.seen:
        assert (int((seen == 10).sum()), int((seen == 200).sum())) == counts


def test_balanced_drawing_shows_rare_classes_as_often():
    network = _Counting()
    common, rare = flat(10, 990), flat(200, 10, label=1)
    images, labels = (np.concatenate(both) for both in zip(common, rare, strict=True))
    part = Part(images, labels, balanced=True)
    learn(network, [part], Learning(40, batch_size=50), seed=0, device=CPU)

    share = float((torch.cat(network.seen) == 200).float().mean())
    assert 0.45 < share < 0.55


def test_check_is_called_at_every_step_and_may_stop():
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    images, labels = striped_images(50)
    with pytest.raises(KeyboardInterrupt):
        learn(
            new_evaluator(SHAPE, CLASSES),
            [Part(images, labels)],
            Learning(10),
            seed=0,
            device=CPU,
            check=check,
        )


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 5), (1, 28, 28), (3, 64, 64)])
def test_evaluator_takes_any_shape(shape):
    network = new_evaluator(shape, 4)
    image = torch.rand(2, *shape)

    assert network(image).shape == (2, 4)
    assert network.hidden(image).dim() == 2


# --- differences and the verdict, on planted cases ----------------------------------------------


def compare(real, added, seeds=4, share=0.5, steps=70):
    """The gain of learning from real and added images over learning from real ones."""
    held, truth = striped_images(300, seed=9)
    learning = Learning(steps, batch_size=32)
    base = [right(taught([Part(*real)], seed, learning), held, truth) for seed in range(seeds)]
    both = [
        right(
            taught([Part(*real, share=1 - share), Part(*added, share=share)], seed, learning),
            held,
            truth,
        )
        for seed in range(seeds)
    ]
    return difference(both, base, truth)


def findings(gain, **changes):
    plain = {
        "label_gap": 0.0,
        "coverage_share": 1.0,
        "copy_rate": 0.0,
        "copying_z": 0.0,
        "gated": False,
        "sampler": "prior",
    }
    return Findings(gain=gain, **(plain | changes))


def of_two_classes():
    """Real images that lack the third class."""
    images, labels = striped_images(200, seed=5)
    return images[labels < 2], labels[labels < 2]


def test_useful_set_is_found_to_help():
    gain = compare(of_two_classes(), striped_images(300, seed=6))

    found = verdict(findings(gain))

    assert gain.low > 0.1
    assert found.outcome == "helps"
    assert "helps" in found.sentence
    assert "points" in found.sentence


def test_useless_noise_makes_no_measurable_difference():
    real = striped_images(200)
    # The same images once more: nothing is added.
    gain = compare(real, real)

    found = verdict(findings(gain))

    assert found.outcome == "no_measurable_difference"
    assert gain.low <= 0 <= gain.high


def test_harmful_mislabelled_set_is_found_to_hurt():
    images, labels = striped_images(300, seed=6)
    gain = compare(striped_images(40), (images, (labels + 1) % CLASSES), share=0.75)

    found = verdict(findings(gain, label_gap=0.9))

    assert gain.high < 0
    assert found.outcome == "hurts"
    assert "set a gate" in found.advice[0]


def test_difference_is_paired_and_balanced():
    labels = np.array([0, 0, 0, 0, 1])
    base = [np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 0, 0], bool)]
    arm = [np.array([1, 1, 1, 1, 1], bool), np.array([1, 1, 1, 0, 1], bool)]

    found = difference(arm, base, labels)

    # Each seed gains a quarter of the first class and all of the second.
    assert found.per_seed == pytest.approx((0.625, 0.625))
    assert found.value == pytest.approx(0.625)
    assert found.low < 0.625 < found.high
    assert balanced_accuracy(arm[0], labels) - balanced_accuracy(base[0], labels) == (
        pytest.approx(0.625)
    )


def test_interval_of_no_difference_holds_zero_about_95_times_of_100():
    random = np.random.default_rng(0)
    labels = np.arange(400) % 4
    held = 0
    for _ in range(400):
        arm, base = (list(random.random((5, 400)) < 0.9) for _ in range(2))
        found = difference(arm, base, labels)
        held += found.low <= 0 <= found.high
    assert held / 400 > 0.93


@pytest.mark.parametrize("count", [2, 24, 1000])
def test_images_that_no_arm_gets_wrong_are_no_certainty(count):
    right = [np.ones(count, bool)] * 5
    found = difference(right, right, np.arange(count) % 2)

    assert found.value == 0.0
    # Of n images a class that all went well, one in n might not have.
    assert 0.5 / count < found.high < 4 / count
    assert found.low == -found.high


def test_one_seed_gives_no_interval_and_no_verdict():
    labels = np.zeros(4, dtype=np.int64)
    found = difference([np.ones(4, bool)], [np.zeros(4, bool)], labels)

    assert found.value == 1.0
    assert np.isnan(found.low)
    assert verdict(findings(found)).outcome == "unknown"


@pytest.mark.parametrize("spoilt", ["label_gap", "coverage_share", "copy_rate", "copying_z"])
@pytest.mark.parametrize("value", [None, float("nan")])
def test_what_is_no_number_reaches_neither_verdict_nor_advice(spoilt, value):
    labels = np.arange(60) % 3
    gain = difference([np.ones(60, bool)] * 3, [np.zeros(60, bool)] * 3, labels)

    found = verdict(findings(gain, **{spoilt: value}))

    assert found == verdict(findings(gain))
    assert "nan" not in found.sentence


def test_no_comparison_is_no_verdict():
    assert verdict(findings(None)).outcome == "unknown"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"copy_rate": 0.05}, "reject copies"),
        ({"copying_z": -9.0}, "reject copies"),
        ({"copying_z": -9.0, "sampler": "neighbour"}, "use the sampler 'prior'"),
        ({"label_gap": 0.1}, "set a gate"),
        ({"label_gap": 0.1, "gated": True}, "raise the gate's `min_score`"),
        ({"coverage_share": 0.3}, "another sampler"),
    ],
)
def test_advice_follows_from_the_figures(changes, words):
    assert words in " ".join(verdict(findings(None, **changes)).advice)
