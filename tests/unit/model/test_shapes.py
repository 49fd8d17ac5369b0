from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.model.autoencoders import make_generator
from datagen.model.config import GeneratorConfig, JudgeConfig
from datagen.model.shapes import Form, generator_forms, judge_forms, size_of
from datagen.quality.judge import Judge

shapes = st.tuples(st.sampled_from([1, 3]), st.integers(1, 20), st.integers(1, 20))
configs = st.builds(
    GeneratorConfig,
    family=st.sampled_from(["autoencoder", "vae", "cvae"]),
    image_shape=shapes,
    class_count=st.integers(1, 4),
    latent_dim=st.integers(1, 5),
    width=st.integers(8, 12),
    encoder_width=st.integers(8, 12),
    blocks=st.integers(0, 2),
    encoder_blocks=st.integers(0, 2),
    stride=st.sampled_from([1, 2, 4]),
    likelihood=st.sampled_from(["bernoulli", "gaussian", "laplace", "discretized_logistic"]),
    null_label=st.booleans(),
    learnt_prior=st.just(False),
    components=st.integers(0, 3),
    flow_width=st.sampled_from([0, 6]),
    flow_blocks=st.integers(1, 2),
    transform_condition=st.booleans(),
)
multi_scale = st.tuples(configs, st.integers(1, 3), st.sampled_from([0, 4])).map(
    lambda drawn: drawn[0].model_copy(
        update={
            "levels": drawn[1],
            "stride": 2 * drawn[0].stride,
            "detail_width": drawn[2],
        }
    )
)
_NAMES = {"torch.float32": "F32", "torch.int64": "I64"}


def forms_of(module):
    return {
        name: Form(_NAMES[str(value.dtype)], tuple(value.shape))
        for name, value in module.state_dict().items()
    }


@given(config=configs | multi_scale)
@settings(deadline=None)
def test_forms_are_those_of_the_real_generator(config):
    assert generator_forms(config) == forms_of(make_generator(config))


def test_learnt_prior_has_tensors_of_its_own():
    config = GeneratorConfig(image_shape=(1, 8, 8), class_count=3, learnt_prior=True)

    assert generator_forms(config) == forms_of(make_generator(config))


@given(shape=shapes, classes=st.integers(1, 5), width=st.integers(8, 12))
@settings(deadline=None)
def test_forms_are_those_of_the_real_judge(shape, classes, width):
    config = JudgeConfig(image_shape=shape, class_count=classes, width=width)

    assert judge_forms(config) == forms_of(Judge(config))


def test_size_is_that_of_all_values():
    model = make_generator(GeneratorConfig(image_shape=(3, 9, 7), class_count=2))
    size = sum(value.nbytes for value in model.state_dict().values())

    assert size_of(generator_forms(model.config)) == size


@pytest.mark.parametrize("changes", [{"width": 2048, "blocks": 64}, {"class_count": 100_000}])
def test_claims_of_any_size_are_reckoned_without_memory(changes):
    config = GeneratorConfig.model_validate(
        {"image_shape": (3, 1024, 1024), "class_count": 9, "latent_dim": 1024} | changes
    )

    assert size_of(generator_forms(config)) > 1 << 33
