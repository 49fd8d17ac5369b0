from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import save_file
from tiny import CPU, tiny_config, tiny_header, tiny_judge, tiny_model

from datagen import bundled
from datagen.errors import InvalidFile
from datagen.model.checkpoint import load_generator, save_checkpoint
from datagen.model.header import read_header


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture
def path(tmp_path, model):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, tiny_header("cvae", model.config))
    return path


def rewritten(path, model, change):
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    change(weights)
    save_file(weights, path, metadata=read_header(path).to_metadata())


def reheaded(path, model, **changes):
    header = read_header(path).model_copy(update=changes)
    save_checkpoint(path, model, header)


def test_a_loaded_generator_is_the_one_that_was_saved(path, model):
    loaded, header = load_generator(path, CPU)

    assert header == tiny_header("cvae", model.config)
    assert loaded.config == model.config
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_header_is_read_without_the_weights(path, model):
    assert read_header(path) == tiny_header("cvae", model.config)


def test_saving_twice_gives_the_same_bytes(path, tmp_path, model):
    again = tmp_path / "again.safetensors"
    save_checkpoint(again, model.to(memory_format=torch.channels_last), read_header(path))

    assert again.read_bytes() == path.read_bytes()


def test_a_checkpoint_may_be_read_by_whom_the_umask_lets(path, tmp_path):
    plain = tmp_path / "plain"
    plain.write_bytes(b"")

    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.9, 0.9999])
def test_a_truncated_checkpoint_is_refused(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])

    with pytest.raises(InvalidFile, match=r"model\.safetensors"):
        load_generator(path, CPU)


def test_a_checkpoint_with_bytes_after_its_end_is_refused(path):
    path.write_bytes(path.read_bytes() + b"more")

    with pytest.raises(InvalidFile, match="damaged"):
        load_generator(path, CPU)


def test_a_pickle_by_another_name_is_refused_and_not_run(tmp_path, model):
    path = tmp_path / "model.safetensors"
    torch.save(model.state_dict(), path)

    with pytest.raises(InvalidFile, match="not a checkpoint of datagen"):
        load_generator(path, CPU)


def test_weights_of_another_program_are_refused(tmp_path, model):
    path = tmp_path / "model.safetensors"
    save_file({"layer.weight": torch.zeros(3)}, path, metadata={"format": "pt"})

    with pytest.raises(InvalidFile, match="not written by datagen"):
        load_generator(path, CPU)


def test_a_judge_is_no_generator(tmp_path):
    path, judge = tmp_path / "judge.safetensors", tiny_judge()
    save_checkpoint(path, judge, tiny_header("judge", judge.config))

    with pytest.raises(InvalidFile, match="holds a judge, and a generator is needed"):
        load_generator(path, CPU)


def test_weights_of_another_shape_are_refused_by_name(path, model):
    rewritten(path, model, lambda weights: weights.update({"encoder.head.bias": torch.zeros(4)}))

    with pytest.raises(InvalidFile, match=r"encoder\.head\.bias is F32 \(4,\)"):
        load_generator(path, CPU)


def test_weights_of_another_type_are_refused(path, model):
    name = "decoder.latent.weight"
    rewritten(path, model, lambda weights: weights.update({name: weights[name].half()}))

    with pytest.raises(InvalidFile, match=r"decoder\.latent\.weight is F16"):
        load_generator(path, CPU)


def test_missing_weights_are_refused(path, model):
    rewritten(path, model, lambda weights: weights.pop("prior.mean"))

    with pytest.raises(InvalidFile, match=r"prior\.mean is not there"):
        load_generator(path, CPU)


def test_weights_that_nothing_asks_for_are_refused(path, model):
    rewritten(path, model, lambda weights: weights.update(extra=torch.zeros(1)))

    with pytest.raises(InvalidFile, match="extra"):
        load_generator(path, CPU)


def test_weights_that_are_no_numbers_are_refused(path, model):
    rewritten(path, model, lambda weights: weights["prior.mean"].fill_(torch.nan))

    with pytest.raises(InvalidFile, match=r"prior.mean that are not finite"):
        load_generator(path, CPU)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"image_shape": [1, 9, 7], "class_count": 3, "depth": 4},
        {"image_shape": [1, 9, 7], "class_count": 3, "width": "wide"},
    ],
)
def test_an_unusable_configuration_is_refused(path, model, config):
    reheaded(path, model, config=config)

    with pytest.raises(InvalidFile, match="configuration that cannot be used"):
        load_generator(path, CPU)


@pytest.mark.parametrize("change", [{"class_names": ("one",)}, {"image_shape": (1, 9, 8)}])
def test_a_header_that_contradicts_its_configuration_is_refused(path, model, change):
    reheaded(path, model, **change)

    with pytest.raises(InvalidFile, match="contradicts itself"):
        load_generator(path, CPU)


def test_a_file_that_claims_an_enormous_network_takes_no_memory_for_it(path, model):
    enormous = tiny_config(image_shape=(3, 1024, 1024), stride=1, width=2048, encoder_width=2048)
    reheaded(path, model, config=enormous.model_dump(mode="json"), image_shape=enormous.image_shape)

    # Made for real, one of its layers alone would need tens of gigabytes.
    with pytest.raises(InvalidFile, match="do not fit its own configuration"):
        load_generator(path, CPU)


def test_offsets_that_point_outside_the_file_are_refused(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    document = json.loads(data[8 : 8 + length])
    document["prior.mean"]["data_offsets"] = [2**40, 2**40 + 60]
    text = json.dumps(document).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    with pytest.raises(InvalidFile, match="damaged"):
        load_generator(path, CPU)


def test_bundled_model_says_what_it_is_and_was_measured():
    header = read_header(bundled.MODEL)

    assert header.kind == "cvae"
    assert header.class_names == tuple("0123456789")
    assert header.image_shape == (1, 28, 28)
    # Without a gate, at temperature 1, by what everybody may draw from.
    assert header.metrics["judge_agreement_by_sampler"]["density"] >= 0.985
    assert header.metrics["recommended"]["gate"]["min_score"] == 0.5
    assert min(header.metrics["variance_ratio_per_class"]) >= 0.8
    assert read_header(bundled.JUDGE).metrics["test_accuracy"] >= 0.992
    assert bundled.MODEL.stat().st_size + bundled.JUDGE.stat().st_size < 8_000_000
