"""Devices and the precision that each computes fastest in."""

from __future__ import annotations

from functools import cache

import torch

from datagen.errors import DeviceUnusable


def resolve_device(name: str) -> torch.device:
    """The device of a name: auto, cpu, cuda or cuda:N.

    Raises:
        DeviceUnusable: there is no such device here.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceUnusable(
            f"DATAGEN_DEVICE is {name!r}; use 'auto', 'cpu', 'cuda' or 'cuda:N'."
        ) from None
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceUnusable(
            f"DATAGEN_DEVICE is {name!r}, and {count} CUDA devices are here; use 'auto' or 'cpu'."
        )
    return device


@cache
def gains_from_bf16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 in hardware; elsewhere it would be slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.backends.cpu.get_cpu_capability()
    flags = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return features.startswith("AVX512") and bool(flags())


def fast_precision(device: torch.device) -> torch.autocast:
    """A context in which networks compute in bfloat16 where the device gains from it."""
    # Weights are not kept cast, where a recording of kernels would keep those of its first step.
    return torch.autocast(
        device.type,
        torch.bfloat16,
        enabled=gains_from_bf16(device),
        cache_enabled=device.type != "cuda",
    )


def kind_of(device: torch.device) -> str:
    """Device, instruction set or model, and precision: what a pixel's last bit hangs on."""
    if device.type == "cuda":
        model = torch.cuda.get_device_name(device).lower().replace(" ", "-")
    else:
        model = torch.backends.cpu.get_cpu_capability().lower().replace(" ", "-")
    return f"{device.type}-{model}-{'bf16' if gains_from_bf16(device) else 'fp32'}"[:64]
