from __future__ import annotations

import pytest
import torch

from datagen.errors import DeviceUnusable
from datagen.model.devices import fast_precision, gains_from_bf16, resolve_device


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def two_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_a_machine_without_gpu_computes_on_its_cpu(no_cuda, name):
    assert resolve_device(name) == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "device"), [("auto", "cuda"), ("cpu", "cpu"), ("cuda:1", "cuda:1")]
)
def test_a_machine_with_gpus_offers_them(two_cuda, name, device):
    assert resolve_device(name) == torch.device(device)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "gpu", ""])
def test_a_device_that_is_not_there_is_refused_by_name(no_cuda, name):
    with pytest.raises(DeviceUnusable, match=f"'{name}'"):
        resolve_device(name)


def test_a_gpu_beyond_the_last_is_refused(two_cuda):
    with pytest.raises(DeviceUnusable, match="2 CUDA devices"):
        resolve_device("cuda:2")


def test_precision_is_reduced_only_where_the_device_gains_from_it():
    cpu = torch.device("cpu")
    weight = torch.ones(4, 4)

    with fast_precision(cpu):
        result = weight @ weight

    assert (result.dtype == torch.bfloat16) == gains_from_bf16(cpu)
