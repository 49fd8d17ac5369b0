from __future__ import annotations

import time

import pytest
import torch
from fits import IMAGES, new_fit
from safetensors.torch import save_file
from tiny import striped_data, tiny_model

from datagen.errors import InvalidFile
from datagen.model.state import TrainingState
from datagen.model.training import Watch, run_stage


@pytest.fixture(scope="module")
def data():
    return striped_data(IMAGES)


@pytest.fixture(scope="module")
def held_out():
    return striped_data(12, seed=9)


def test_state_is_read_back_as_it_was_kept(data, held_out, tmp_path):
    fit, path = new_fit(data, held_out), tmp_path / "state.safetensors"
    state = TrainingState()
    run_stage(fit, state, Watch(deadline=time.monotonic()))

    state.save(path)
    loaded = TrainingState.load(path)

    assert (loaded.stage, loaded.step, loaded.history) == ("fit", 1, state.history)
    assert loaded.tensors.keys() == state.tensors.keys()
    assert all(torch.equal(loaded.tensors[name], value) for name, value in state.tensors.items())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_damaged_state_is_refused(data, held_out, tmp_path):
    path, state = tmp_path / "state.safetensors", TrainingState()
    run_stage(new_fit(data, held_out), state, Watch(deadline=time.monotonic()))
    state.save(path)
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(InvalidFile, match=r"state\.safetensors is damaged"):
        TrainingState.load(path)


@pytest.mark.parametrize("metadata", [None, {"datagen-training": "{"}, {"datagen-training": "{}"}])
def test_a_file_that_holds_no_training_is_refused(tmp_path, metadata):
    path = tmp_path / "state.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata)

    with pytest.raises(InvalidFile, match="holds "):
        TrainingState.load(path)


def test_a_state_of_another_architecture_is_refused(data, held_out):
    state = TrainingState()
    run_stage(new_fit(data, held_out), state, Watch(deadline=time.monotonic()))

    with pytest.raises(InvalidFile, match="another generator"):
        state.restore_module("generator", tiny_model(width=16))
