from __future__ import annotations

import pytest
from pydantic import ValidationError

from datagen.errors import InvalidRequest
from datagen.model.config import GeneratorConfig
from datagen.model.training_options import TrainingOptions

MNIST = {"image_shape": (1, 28, 28), "class_count": 10}


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"refine_epochs": -1},
        {"batch_size": 1},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"beta": -1},
        {"beta": float("inf")},
        {"kl_warmup": 1.5},
        {"validation_fraction": 1},
        {"time_budget": 0},
        {"time_budget": float("inf")},
        {"preset": "huge"},
        {"seed": -1},
        {"seed": 2**63},
        {"epoch": 3},
    ],
)
def test_unusable_training_options_are_refused(change):
    with pytest.raises(ValidationError):
        TrainingOptions(**change)


def test_values_cannot_be_changed():
    with pytest.raises(ValidationError):
        GeneratorConfig(**MNIST).width = 8
    with pytest.raises(ValidationError):
        TrainingOptions().epochs = 1


def filled_in(counts, shape=(1, 28, 28), mid_tones=0.0, **given):
    return TrainingOptions(**given).for_images(counts, shape, mid_tones)


def test_stages_take_as_many_steps_however_many_images_there_are():
    few, some, many = (filled_in([count] * 10) for count in (20, 5000, 100_000))

    assert (few.epochs, few.judge_epochs) == (4000, 1500)
    assert (some.epochs, some.judge_epochs, some.refine_epochs) == (21, 8, 7)
    # Each image is seen a few times all the same.
    assert (many.epochs, many.judge_epochs, many.refine_epochs) == (8, 4, 2)


def test_small_classes_are_transformed_and_not_learnt_by_heart():
    small, large = filled_in([5000, 40]), filled_in([5000, 4000])

    assert (small.augment, small.refine_epochs) == ("affine", 0)
    assert not small.transform_condition
    assert (large.augment, large.refine_epochs > 0) == ("none", True)


@pytest.mark.parametrize(
    ("counts", "balanced"),
    [([10, 10], False), ([20, 10], False), ([21, 10], True), ([9, 0], False)],
)
def test_lopsided_classes_are_drawn_equally_often(counts, balanced):
    assert filled_in(counts).balanced is balanced


def test_latent_dimensions_and_likelihood_follow_the_images():
    assert [filled_in([count] * 10).latent_dim for count in (900, 1000)] == [16, 32]
    assert filled_in([9], (3, 8, 8)).likelihood == "gaussian"
    assert filled_in([9], (3, 8, 33)).likelihood == "laplace"
    assert filled_in([9], (1, 8, 8)).likelihood == "bernoulli"
    assert [filled_in([900], (c, 8, 8)).latent_dim for c in (1, 3)] == [16, 96]


def test_colour_and_small_classes_are_refined_only_if_that_is_asked_for():
    for counts, channels in (([900] * 2, 3), ([40] * 2, 1)):
        plain, asked = (filled_in(counts, (channels, 8, 8), **g) for g in ({}, {"refine": True}))
        assert plain.refine_epochs == 0
        assert asked.refine_epochs > 0
    assert filled_in([900] * 2, (1, 8, 8)).refine_epochs > 0
    assert filled_in([40] * 2, refine=True, refine_epochs=3).refine_epochs == 3


@pytest.mark.parametrize(
    ("image_shape", "levels", "stride", "detail_width"),
    [
        ((1, 28, 28), 0, 4, 0),
        ((1, 64, 64), 2, 4, 24),
        ((3, 64, 64), 2, 4, 24),
        ((3, 32, 32), 0, 4, 0),
        ((3, 33, 32), 2, 4, 24),
        ((3, 8, 8), 0, 4, 0),
        ((3, 256, 200), 2, 16, 24),
    ],
)
def test_multi_scale_networks_are_for_what_is_large(image_shape, levels, stride, detail_width):
    options = filled_in([900] * 2, image_shape)

    assert (options.levels, options.stride, options.detail_width) == (levels, stride, detail_width)
    assert (options.prior == "flow") == (levels > 0)
    is_picture = levels > 0 or image_shape[0] == 3
    assert (options.optimizer == "muon") == options.transform_condition == is_picture


@pytest.mark.parametrize(
    ("image_shape", "levels", "stride", "detail_width"),
    [
        ((1, 28, 28), 1, 4, 24),
        ((1, 32, 32), 1, 4, 24),
        ((3, 32, 32), 0, 4, 0),
        ((1, 16, 16), 1, 2, 0),
        ((3, 33, 32), 2, 4, 24),
        ((1, 15, 15), 0, 4, 0),
    ],
)
def test_multi_scale_networks_are_for_small_grey_pictures_with_mid_tones_too(
    image_shape, levels, stride, detail_width
):
    options = filled_in([9000] * 2, image_shape, mid_tones=0.36)
    assert (options.levels, options.stride, options.detail_width) == (levels, stride, detail_width)
    if levels:
        small = max(image_shape[1:]) <= 32
        assert (options.latent_dim, options.batch_size) == ((64, 128) if small else (96, 48))
        assert options.refine_epochs == 0
    assert filled_in([9000] * 2, (1, 28, 28), mid_tones=0.08).levels == 0


def test_judge_of_multi_scale_networks_keeps_its_own_batches():
    options = filled_in([900] * 2, (3, 40, 40))

    assert (options.batch_size, options.judge_batch_size) == (48, 256)
    assert filled_in([900] * 2, (3, 40, 40), batch_size=64).judge_batch_size == 64


@pytest.mark.parametrize(("asked", "epochs"), [({}, 40), ({"epochs": 1}, 1), ({"epochs": 5}, 2)])
def test_flow_takes_no_more_steps_than_the_fit_before_it(asked, epochs):
    assert filled_in([900] * 2, (3, 40, 40), **asked).flow_epochs == epochs


def test_large_preset_takes_no_latents_from_colour():
    assert filled_in([900], (3, 64, 64), preset="large").latent_dim == 96
    assert filled_in([900], (1, 28, 28), preset="large").latent_dim == 32


def test_dataset_without_images_has_options_too():
    assert filled_in([]).balanced is False


def test_what_was_asked_for_is_kept():
    asked = TrainingOptions(epochs=2, refine_epochs=0, stride=2, preset="large", width=96)
    options = asked.for_images([10], (1, 256, 256))

    assert (options.epochs, options.refine_epochs, options.judge_epochs) == (2, 0, 800)
    assert (options.stride, options.width, options.blocks) == (2, 96, 4)


@pytest.mark.parametrize(
    ("height", "width", "stride"),
    [(8, 8, 4), (28, 48, 4), (49, 20, 8), (96, 96, 8), (97, 97, 16), (1024, 1024, 32)],
)
def test_stride_follows_the_images_size(height, width, stride):
    assert filled_in([100], (1, height, width), levels=0).stride == stride


def test_presets_are_sizes_of_the_networks():
    sizes = {name: filled_in([9], preset=name).width for name in ("small", "base", "large")}

    assert sizes == {"small": 32, "base": 64, "large": 192}


PARENT = {"latent_dim": 24, "width": 40, "levels": 2, "stride": 2, "likelihood": "laplace"}


def test_training_that_starts_from_a_model_has_its_networks():
    parent = GeneratorConfig(**MNIST, **PARENT, flow_width=48)
    options = TrainingOptions(beta=0.5).starting_from(parent, (1, 28, 28))
    options = options.for_images([5000] * 10, (1, 28, 28))

    assert {name: getattr(options, name) for name in PARENT} == PARENT
    assert (options.prior, options.flow_width) == ("flow", 48)
    assert (options.beta, options.kl_schedule) == (0.5, "constant")


def test_what_is_given_counts_before_what_a_model_to_start_from_was_trained_with():
    parent = GeneratorConfig(**MNIST, **PARENT, flow_width=48)
    options = TrainingOptions(prior="standard", kl_schedule="cyclical", width=40)
    options = options.starting_from(parent, (1, 28, 28))

    assert (options.prior, options.kl_schedule) == ("standard", "cyclical")


@pytest.mark.parametrize(
    ("device", "shape", "options", "presets"),
    [
        ("cpu", (3, 64, 64), {}, ("base", "small")),
        ("cuda", (3, 64, 64), {}, ("large", "base")),
        ("mps", (3, 64, 64), {}, ("base", "small")),
        ("cuda", (3, 64, 64), {"preset": "small"}, ("small",)),
        ("cuda", (3, 64, 64), {"width": 40}, (None,)),
        # Strokes, and whatever else single-scale networks learn.
        ("cuda", (1, 28, 28), {}, (None,)),
        ("cpu", (3, 32, 32), {}, (None,)),
    ],
)
def test_sizes_of_networks_for_pictures_depend_on_the_device(device, shape, options, presets):
    assert TrainingOptions(**options).presets_to_try(device, shape, 0.1) == presets


@pytest.mark.parametrize(
    ("parent", "options", "expected"),
    [
        ({"image_shape": (3, 64, 64)}, {}, True),
        ({"image_shape": (3, 64, 64)}, {"levels": 0}, False),
        ({"image_shape": (3, 64, 64), "levels": 2, "stride": 4}, {}, False),
        ({"image_shape": (3, 32, 32)}, {}, False),
        # Strokes or pictures: their pixels decide, and are not known here.
        ({"image_shape": (1, 28, 28)}, {}, False),
    ],
)
def test_single_scale_networks_are_outgrown_where_multi_scale_ones_would_be_taken(
    parent, options, expected
):
    config = GeneratorConfig.model_validate({"class_count": 10} | parent)
    assert TrainingOptions(**options).outgrows(config) is expected


def test_prior_that_was_trained_along_is_trained_on():
    parent = GeneratorConfig(**MNIST, learnt_prior=True)
    assert TrainingOptions().starting_from(parent, (1, 28, 28)).prior == "learnt"


@pytest.mark.parametrize(
    ("options", "shape", "words", "field"),
    [
        ({}, (1, 32, 32), "shape 1 x 32 x 32, and those of the model.* 1 x 28 x 28", "from_model"),
        ({"width": 64}, (1, 28, 28), "'width' is 64.*has 40", "options.width"),
        ({"family": "vae"}, (1, 28, 28), "'family' is 'vae'.*has 'cvae'", "options.family"),
        ({"preset": "large"}, (1, 28, 28), "'preset' is 'large'", "options.preset"),
    ],
)
def test_model_to_start_from_with_other_images_or_networks_is_refused(options, shape, words, field):
    parent = GeneratorConfig(**MNIST, **PARENT)
    with pytest.raises(InvalidRequest, match=words) as error:
        TrainingOptions(**options).starting_from(parent, shape)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("counts", "image_shape", "weight"),
    [
        ([900] * 2, (1, 64, 64), 0.3),
        ([900, 0], (1, 64, 64), 0.0),
        ([900] * 2, (3, 64, 64), 0.0),
        ([900] * 2, (1, 28, 28), 0.0),
    ],
)
def test_perceptual_distance_is_for_large_grey_pictures_of_several_labels(
    counts, image_shape, weight
):
    assert filled_in(counts, image_shape).feature_weight == weight
    assert filled_in(counts, image_shape, feature_weight=0.5).feature_weight == 0.5
