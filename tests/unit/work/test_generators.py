from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from datagen.errors import DeviceUnusable, InvalidFile
from datagen.quality.training_index import index_of, save_index
from datagen.service.model_files import ModelFiles, StoredFile
from datagen.work import generators
from datagen.work.generators import KEPT, GeneratorCache, all_threads, fetched, use_threads


@pytest.fixture(autouse=True)
def _same_threads_after():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_generator_is_loaded_once(storage, model):
    cache = GeneratorCache(storage, "cpu")
    first = cache.get(ModelFiles.of(model))
    storage.delete(model.checkpoint_key)

    assert cache.get(ModelFiles.of(model)) is first


def test_generators_that_were_not_used_for_long_are_let_go(storage, add_model):
    cache = GeneratorCache(storage, "cpu")
    rows = [add_model(f"model-{number}", seed=number) for number in range(KEPT + 1)]
    made = [cache.get(ModelFiles.of(row)) for row in rows[:KEPT]]
    assert cache.get(ModelFiles.of(rows[0])) is made[0]
    cache.get(ModelFiles.of(rows[KEPT]))

    assert cache.get(ModelFiles.of(rows[0])) is made[0]
    assert cache.get(ModelFiles.of(rows[1])) is not made[1]


def test_weights_that_are_not_the_ones_named_are_refused(storage, add_model):
    one, other = add_model("one"), add_model("other", seed=1)

    with (
        pytest.raises(InvalidFile, match="have the digest"),
        fetched(storage, one.checkpoint_key, other.digest),
    ):
        raise AssertionError


def test_local_copy_goes_when_it_was_read(storage, model):
    with fetched(storage, model.checkpoint_key, model.digest) as path:
        assert path.read_bytes() == storage.get(model.checkpoint_key)

    assert not path.parent.exists()


def test_device_that_is_not_there_is_refused(storage):
    with pytest.raises(DeviceUnusable, match="cuda:63"):
        GeneratorCache(storage, "cuda:63")


def test_models_at_hand_are_loaded_before_they_are_asked_for(engine, storage, model, settings):
    cache = GeneratorCache(storage, "cpu")
    generators.warm_up(engine, cache, settings)
    storage.delete(model.checkpoint_key)

    assert cache.get(ModelFiles.of(model))


def test_model_that_cannot_be_loaded_does_not_keep_a_worker_from_starting(
    engine, storage, model, settings
):
    storage.delete(model.checkpoint_key)
    generators.warm_up(engine, GeneratorCache(storage, "cpu"), settings)


def test_more_worker_processes_than_cores_have_a_thread_each(settings):
    use_threads(settings.model_copy(update={"workers": 1024}))

    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("given", "threads"),
    [("1", 1), ("2,4", 2), (" 3 ", 3), ("64", 4), ("0", 4), ("", 4), ("many", 4), (None, 4)],
)
def test_no_more_threads_are_used_than_the_environment_allows(
    settings, monkeypatch, given, threads
):
    monkeypatch.setattr(generators.os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)

    with all_threads(settings.model_copy(update={"workers": 1024})):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 1


def test_models_of_the_same_weights_have_an_index_of_their_own(storage, model, tmp_path):
    bare = ModelFiles.of(model)
    shape, classes = tuple(model.image_shape), len(model.class_names)
    images = np.random.default_rng(0).integers(0, 256, (12, *shape), dtype=np.uint8)
    path = tmp_path / "index.safetensors"
    save_index(path, index_of(images.__getitem__, np.arange(12) % classes, classes))
    storage.put("models/index", path.read_bytes())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    cache = GeneratorCache(storage, "cpu")

    assert cache.get(bare).index is None
    assert cache.get(replace(bare, index=StoredFile("models/index", digest))).index is not None
    assert cache.get(bare).index is None
