from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CLASSES, CPU, SHAPE, striped_data, striped_images, tiny_header, tiny_judge
from torch import nn

from datagen.errors import InvalidFile
from datagen.model.checkpoint import save_checkpoint
from datagen.model.config import JudgeConfig
from datagen.model.decoding import TILE
from datagen.model.state import TrainingState
from datagen.model.training import Watch, run_stage
from datagen.model.training_options import TrainingOptions
from datagen.quality.judge import Judge, JudgeFit, Scorer, accuracy, calibrate, folded, load_judge

OPTIONS = TrainingOptions(judge_epochs=4, batch_size=16, seed=3)


@pytest.fixture(scope="module")
def judge():
    """With the statistics of images that it has seen, which a new judge lacks."""
    judge = tiny_judge(image_shape=(1, 28, 28), class_count=10, width=32)
    images, _ = striped_images(300, (1, 28, 28), 10)
    judge.train()
    with torch.no_grad():
        judge(torch.tensor(images).float() / 255)
    return judge.eval()


@pytest.fixture(scope="module")
def images():
    return striped_images(2 * TILE + 40, (1, 28, 28), 10, seed=6)[0]


@pytest.fixture(scope="module")
def expected(judge, images):
    return Scorer(judge, CPU).score(images)


def trained(data, watch=None, slices_to=None):
    """A judge trained in one go, or in slices that each load what the one before has kept."""
    while True:
        judge = tiny_judge(seed=1).train().requires_grad_()
        stage = JudgeFit(judge, data, striped_data(12, seed=9), OPTIONS)
        kept = slices_to is not None and slices_to.exists()
        state = TrainingState.load(slices_to) if kept else TrainingState()
        if run_stage(stage, state, watch or Watch()):
            return judge, state
        state.save(slices_to)


def test_scores_are_probabilities_of_the_classes(expected, images):
    assert expected.shape == (len(images), 10)
    assert expected.dtype == np.float32
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-5)
    assert expected.min() >= 0


def test_scores_are_what_the_judge_itself_says(judge, images, expected):
    with torch.no_grad():
        logits = judge(torch.from_numpy(images[:64]).float() / 255)

    np.testing.assert_allclose(expected[:64], torch.softmax(logits, dim=1), atol=1e-4)


@pytest.mark.parametrize("rows", [slice(0, 1), slice(31, 64), slice(5, None)])
def test_a_score_depends_on_its_image_alone(judge, images, expected, rows):
    np.testing.assert_array_equal(Scorer(judge, CPU).score(images[rows]), expected[rows])


def test_scores_do_not_depend_on_order_or_threads(judge, images, expected):
    order = np.random.default_rng(0).permutation(len(images))
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found = Scorer(judge, CPU).score(images[order])
            np.testing.assert_array_equal(found, expected[order])
    finally:
        torch.set_num_threads(before)


def test_scoring_leaves_the_judge_as_it_was(judge, images):
    before = {name: value.clone() for name, value in judge.state_dict().items()}

    Scorer(judge, CPU).score(images)

    assert list(judge.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in judge.state_dict().items())


def test_a_trained_judge_tells_the_classes_apart_and_keeps_that_in_its_file(tmp_path):
    judge, state = trained(striped_data(240))
    path = tmp_path / "judge.safetensors"
    save_checkpoint(path, judge, tiny_header("judge", judge.config))
    fresh = striped_data(90, seed=77)

    assert accuracy(judge, fresh) > 0.9
    assert [entry["epoch"] for entry in state.history] == [1, 2, 3, 4]
    assert state.history[-1]["validation_accuracy"] > 0.9
    loaded, header = load_judge(path, CPU)
    assert header.kind == "judge"
    assert accuracy(loaded, fresh) == accuracy(judge, fresh)
    assert not loaded.training


def test_training_in_slices_gives_the_same_judge_as_in_one_go(tmp_path):
    data = striped_data(50)
    whole, history = trained(data)

    sliced, sliced_history = trained(
        data, Watch(deadline=time.monotonic()), tmp_path / "state.safetensors"
    )

    assert sliced_history.history == history.history
    for name, value in whole.state_dict().items():
        assert torch.equal(sliced.state_dict()[name], value), name


def test_training_leaves_the_global_random_state_alone():
    before = torch.random.get_rng_state()

    trained(striped_data(20))

    assert torch.equal(torch.random.get_rng_state(), before)


def test_accuracy_on_no_images_is_not_measured():
    assert accuracy(tiny_judge(), striped_data(0)) is None


@settings(deadline=None, max_examples=30)
@given(shape=st.tuples(st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40)))
def test_any_height_width_and_channels_are_judged(shape):
    judge = tiny_judge(image_shape=shape)
    images = np.zeros((3, *shape), dtype=np.uint8)

    assert Scorer(judge, CPU).score(images).shape == (3, CLASSES)


@pytest.fixture
def path(tmp_path):
    path, judge = tmp_path / "judge.safetensors", tiny_judge()
    save_checkpoint(path, judge, tiny_header("judge", judge.config))
    return path


def test_a_truncated_judge_is_refused(path):
    path.write_bytes(path.read_bytes()[:-10])

    with pytest.raises(InvalidFile, match=r"judge\.safetensors"):
        load_judge(path, CPU)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "cvae"}, "a judge is needed"),
        ({"class_names": ("one",)}, "contradicts itself"),
        ({"image_shape": (1, 9, 8)}, "contradicts itself"),
        ({"config": {"image_shape": SHAPE, "class_count": 3, "widht": 8}}, "cannot be used"),
        (
            {"config": {"image_shape": SHAPE, "class_count": 3, "width": 16}},
            "do not fit its own configuration",
        ),
        ({"config": {"image_shape": (1, 9, -7), "class_count": 3}}, "cannot be used"),
    ],
)
def test_a_judge_whose_header_does_not_fit_is_refused(path, change, reason):
    header = tiny_header("judge", tiny_judge().config).model_copy(update=change)
    save_checkpoint(path, tiny_judge(), header)

    with pytest.raises(InvalidFile, match=reason):
        load_judge(path, CPU)


def test_folded_judge_answers_as_the_judge_does(judge):
    images, _ = striped_images(50, (1, 28, 28), 10, seed=4)
    image = torch.tensor(images).float() / 255
    quick = folded(judge)

    assert not any(isinstance(part, nn.BatchNorm2d) for part in quick.modules())
    torch.testing.assert_close(quick(image), judge(image), rtol=0, atol=1e-5)


def test_scorer_leaves_the_judge_that_it_was_given_as_it_was():
    judge = tiny_judge().train()
    before = {name: value.clone() for name, value in judge.state_dict().items()}
    Scorer(judge, CPU).score(striped_images(10)[0])

    assert judge.training
    assert all(torch.equal(before[name], value) for name, value in judge.state_dict().items())


def test_images_that_may_not_be_written_to_are_scored(judge):
    images, _ = striped_images(3, (1, 28, 28), 10)
    scorer = Scorer(judge, CPU)
    expected = scorer.score(images)
    images.flags.writeable = False

    np.testing.assert_array_equal(scorer.score(images), expected)


def test_calibrated_judge_is_right_as_often_as_it_says():
    judge = tiny_judge()
    data = striped_data(300, seed=4)
    image, label = data.rows(torch.arange(300))
    with torch.no_grad():
        right = judge(image).argmax(dim=1) == label
    share = float(right.float().mean())
    assert 0 < share < 1

    temperature = calibrate(judge, data)
    scores = Scorer(judge, torch.device("cpu")).score(data.pixels(torch.arange(300)))

    assert temperature == judge.config.temperature != 1.0
    with torch.no_grad():
        logits = judge(image).double()
    others = [torch.nn.functional.cross_entropy(logits / t, label) for t in (1.0, temperature)]
    assert others[1] < others[0]
    assert np.allclose(scores, torch.softmax(logits / temperature, dim=1), atol=1e-5)


def test_few_images_calibrate_nothing():
    judge = tiny_judge()

    assert calibrate(judge, striped_data(99)) == 1.0
    assert judge.config.temperature == 1.0


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 9, 15, 16, 17, 28])
@pytest.mark.parametrize("height", [3, 9, 16, 28])
def test_scores_of_any_size_are_near_those_in_full_precision(height, width):
    # oneDNN's strided convolution in bfloat16 reads what nobody wrote where it sees one or two
    # columns; what lay there before decides what comes of it.
    judge = Judge(JudgeConfig(image_shape=(1, height, width), class_count=3, width=32)).eval()
    images = np.random.default_rng(0).integers(0, 256, (64, 1, height, width), np.uint8)
    with torch.inference_mode():
        exact = torch.softmax(judge(torch.from_numpy(images) / 255.0), dim=1).numpy()
    scorer = Scorer(judge, torch.device("cpu"))
    for _ in range(3):
        spoilt = [torch.full((size,), float("nan")) for size in (1 << 10, 1 << 14, 1 << 18)]
        del spoilt
        assert np.abs(scorer.score(images) - exact).max() < 0.02
