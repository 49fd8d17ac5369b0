"""Checkpoints: safetensors with a JSON header. No pickle is read or written."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from datagen.errors import InvalidFile
from datagen.model.autoencoders import FAMILIES, Autoencoder, make_generator
from datagen.model.config import GeneratorConfig
from datagen.model.header import CheckpointHeader, read_header


def save_checkpoint(path: Path, module: nn.Module, header: CheckpointHeader) -> None:
    """Write weights and header; the same bytes for the same weights and header."""
    weights = {
        name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()
    }
    # Written here, and not by the library, which would keep the file from other users.
    path.write_bytes(save(weights, metadata=header.to_metadata()))


def load_weights(path: Path, module: nn.Module, device: torch.device) -> None:
    """Put a file's weights into a module of the same shapes, ready to be used.

    Raises:
        InvalidFile: damaged, not finite, or with other names, types or shapes than the module's.
    """
    weights = read_tensors(path)
    wanted = {name: _form(value) for name, value in module.state_dict().items()}
    found = {name: _form(value) for name, value in weights.items()}
    if found != wanted:
        differing = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
        raise InvalidFile(
            f"{path.name} has weights that do not fit its own configuration: {differing[0]} is "
            f"{found.get(differing[0])} and should be {wanted.get(differing[0])}."
        )
    for name, value in weights.items():
        if not bool(value.isfinite().all()):
            raise InvalidFile(f"{path.name} has values in {name} that are not finite numbers.")
    module.load_state_dict(weights)
    module.to(device).eval().requires_grad_(requires_grad=False)


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises InvalidFile."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidFile(f"{path.name} is damaged: {error}.") from error


def checked_header(path: Path, wanted: str, *kinds: str) -> CheckpointHeader:
    """A file's header, if the file is of a kind that is wanted. Raises InvalidFile."""
    header = read_header(path)
    if header.kind not in (kinds or (wanted,)):
        raise InvalidFile(f"{path.name} holds a {header.kind}, and a {wanted} is needed.")
    return header


def checked_config(path: Path, kind: type[BaseModel], header: CheckpointHeader) -> BaseModel:
    """A header's configuration. Raises InvalidFile."""
    try:
        return kind.model_validate(header.config)
    except ValidationError as error:
        problem = error.errors()[0]
        raise InvalidFile(
            f"{path.name} has a configuration that cannot be used: "
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}."
        ) from None


def check_claim(path: Path, value_count: int) -> None:
    """Refuse a file that claims a larger network than it holds, before memory is taken for it.

    Raises:
        InvalidFile: fewer bytes than float32 values of this count need.
    """
    size = path.stat().st_size
    if size < value_count * torch.float32.itemsize:
        raise InvalidFile(
            f"{path.name} claims {value_count:,} values and has {size:,} bytes, too few for them."
        )


def load_generator(path: Path, device: torch.device) -> tuple[Autoencoder, CheckpointHeader]:
    """A generator and its header.

    Raises:
        InvalidFile: truncated, damaged, of another kind, or with shapes that do not fit.
    """
    header = checked_header(path, "generator", *FAMILIES)
    config = checked_config(path, GeneratorConfig, header)
    assert isinstance(config, GeneratorConfig)  # noqa: S101 - for the type checker
    if config.family != header.kind:
        raise InvalidFile(f"{path.name} contradicts itself about what kind of model it holds.")
    if config.image_shape != header.image_shape or config.class_count != len(header.class_names):
        raise InvalidFile(f"{path.name} contradicts itself about its images or classes.")
    check_claim(path, config.value_count)
    model = make_generator(config)
    load_weights(path, model, device)
    return model, header
