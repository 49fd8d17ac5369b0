"""Checkpoints: safetensors with a JSON header. No pickle is read or written."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from datagen.errors import InvalidFile
from datagen.model.autoencoders import Autoencoder, make_generator
from datagen.model.checking import check_generator
from datagen.model.header import CheckpointHeader


def save_checkpoint(path: Path, module: nn.Module, header: CheckpointHeader) -> None:
    """Write weights and header; the same bytes for the same weights and header."""
    weights = {
        name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()
    }
    # Written here, and not by the library, which would keep the file from other users.
    path.write_bytes(save(weights, metadata=header.to_metadata()))


def load_weights(path: Path, module: nn.Module, device: torch.device) -> None:
    """Put the weights of a file that was checked into a module, ready to be used.

    Raises:
        InvalidFile: damaged, or values that are no finite numbers.
    """
    weights = read_tensors(path)
    for name, value in weights.items():
        if not bool(value.isfinite().all()):
            raise InvalidFile(f"{path.name} has values in {name} that are not finite numbers.")
    module.load_state_dict(weights)
    module.to(device).eval().requires_grad_(requires_grad=False)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises InvalidFile."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidFile(f"{path.name} is damaged: {error}.") from error


def load_generator(path: Path, device: torch.device) -> tuple[Autoencoder, CheckpointHeader]:
    """A generator and its header.

    Raises:
        InvalidFile: truncated, damaged, of another kind, or with shapes that do not fit.
    """
    config, header = check_generator(path)
    model = make_generator(config)
    load_weights(path, model, device)
    return model, header
