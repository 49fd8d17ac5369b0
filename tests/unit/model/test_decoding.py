from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tiny import CPU, tiny_model

from datagen.model.decoding import TILE, Decoder, quantised, tile_of

COUNT = 2 * TILE + 61


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    """As wide as the bundled model, so that the same algorithms are chosen."""
    return tiny_model(image_shape=(1, 28, 28), class_count=10, latent_dim=16, width=64, blocks=2)


@pytest.fixture(scope="module")
def wanted():
    random = np.random.default_rng(4)
    return random.standard_normal((COUNT, 16), dtype=np.float32), random.integers(0, 10, COUNT)


@pytest.fixture(scope="module")
def expected(model, wanted):
    return decoded(model, *wanted)


def decoded(model, latents, labels):
    return np.concatenate(list(Decoder(model, CPU).tiles(latents, labels)))


def test_tiles_hold_every_image_once_in_order(model, wanted):
    tiles = list(Decoder(model, CPU).tiles(*wanted))

    assert [len(tile) for tile in tiles] == [TILE, TILE, 61]
    assert {(tile.dtype, tile.shape[1:]) for tile in tiles} == {(np.dtype(np.uint8), (1, 28, 28))}


def test_pixels_are_the_models_probabilities(model, wanted, expected):
    latents, labels = (torch.from_numpy(part[:50]) for part in wanted)
    exact = torch.sigmoid(model.decode(latents, labels)).numpy() * 255

    assert np.abs(expected[:50] - exact).max() < 1.0


@pytest.mark.parametrize("rows", [slice(0, 1), slice(37, 38), slice(100, 164), slice(3, COUNT)])
def test_pixels_do_not_depend_on_the_size_of_the_batch(model, wanted, expected, rows):
    np.testing.assert_array_equal(decoded(model, *(part[rows] for part in wanted)), expected[rows])


def test_pixels_do_not_depend_on_the_order(model, wanted, expected):
    order = np.random.default_rng(1).permutation(COUNT)

    np.testing.assert_array_equal(
        decoded(model, *(part[order] for part in wanted)), expected[order]
    )


@pytest.mark.parametrize("count", [1, 2])
def test_pixels_do_not_depend_on_the_number_of_threads(model, wanted, expected, count):
    with threads(count):
        np.testing.assert_array_equal(decoded(model, *wanted), expected)


def test_a_second_decoder_makes_the_same_pixels(model, wanted, expected):
    decoder = Decoder(model, CPU)
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate(list(decoder.tiles(*wanted))), expected)


def test_labels_change_the_pixels(model, wanted, expected):
    latents, labels = wanted

    other = decoded(model, latents[:8], (labels[:8] + 1) % 10)

    assert not np.array_equal(other, expected[:8])


def test_nothing_wanted_gives_no_tile(model):
    empty = np.zeros((0, 16), dtype=np.float32), np.zeros(0, dtype=np.int64)

    assert list(Decoder(model, CPU).tiles(*empty)) == []


def test_kind_names_device_and_precision(model):
    kind = Decoder(model, CPU).kind.split("-")

    assert kind[0] == "cpu"
    assert kind[-1] in {"fp32", "bf16"}
    assert "-".join(kind[1:-1]) == torch.backends.cpu.get_cpu_capability().lower()


@pytest.fixture
def small_memory(monkeypatch, model):
    """A device that has room for so many images a tile."""

    def limit(room):
        whole = type(model).decode

        def decode(self, latent, label):
            if len(latent) > room:
                raise torch.cuda.OutOfMemoryError
            return whole(self, latent, label)

        monkeypatch.setattr(type(model), "decode", decode)

    return limit


def test_a_full_gpu_memory_halves_the_tile_and_loses_nothing(small_memory, model, wanted, expected):
    small_memory(70)

    tiles = list(Decoder(model, CPU).tiles(*wanted))

    assert max(len(tile) for tile in tiles) == TILE // 4
    # Another shape may be summed in another order, which moves a pixel by one step at most.
    assert np.abs(np.concatenate(tiles).astype(int) - expected).max() <= 1


def test_a_gpu_without_room_for_one_image_says_so(small_memory, model, wanted):
    small_memory(0)

    with pytest.raises(torch.cuda.OutOfMemoryError):
        next(Decoder(model, CPU).tiles(*wanted))


def test_quantised_rounds_to_the_nearest_value():
    pixels = torch.tensor([0.0, 0.0019, 0.002, 0.5, 0.999, 1.0])

    assert quantised(pixels).tolist() == [0, 0, 1, 128, 255, 255]


@pytest.mark.parametrize("shape", [(3, 5, 11), (1, 1, 1)])
def test_odd_shapes_are_decoded_whole(shape):
    model = tiny_model(image_shape=shape)
    latents, labels = np.zeros((3, 5), dtype=np.float32), np.arange(3)

    assert decoded(model, latents, labels).shape == (3, *shape)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1, 28, 28), 256), ((3, 64, 64), 256), ((3, 256, 256), 64), ((3, 1024, 1024), 4)],
)
def test_tiles_of_large_images_hold_fewer(shape, size):
    assert tile_of(shape) == size
