"""The state of a training between two slices: tensors and a small document in one file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from datagen.errors import InvalidFile
from datagen.model.checkpoint import read_tensors

STATE_KEY = "datagen-training"
_DOCUMENT = ("stage", "step", "history", "dataset", "plan", "pace", "options")
# States of earlier versions have none.
_MAY_BE_MISSING = {"options"}
# What a stage keeps for itself; the modules are for those that follow too.
_OF_A_STAGE = ("optimizer.", "average.", "best.", "flow_average.", "flow_best.")


class Kept(Protocol):
    """What of a stage belongs to the state."""

    name: str
    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]


@dataclass
class TrainingState:
    """Everything that a training needs to go on from a step: tensors and a small document.

    Attributes:
        stage: name of the stage that it is in.
        step: steps of that stage that are done.
        tensors: weights, averages and the optimizers' moments.
        history: what was measured at the end of each epoch of each stage.
        dataset: digest of the dataset that it began with.
        plan: epochs that a time budget came to.
        pace: seconds an epoch of each stage, as measured when it began.
        options: how it trains, with all that the recipe filled in.
    """

    stage: str = ""
    step: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    dataset: str = ""
    plan: dict[str, int] = field(default_factory=dict)
    pace: dict[str, float] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write whole or not at all."""
        document = {name: getattr(self, name) for name in _DOCUMENT}
        incoming = path.with_suffix(".incoming")
        tensors = {name: value.cpu().contiguous() for name, value in self.tensors.items()}
        save_file(tensors, incoming, metadata={STATE_KEY: json.dumps(document)})
        incoming.replace(path)

    @classmethod
    def load(cls, path: Path) -> TrainingState:
        """Read what `save` wrote. Raises InvalidFile."""
        tensors = read_tensors(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if STATE_KEY not in metadata:
            raise InvalidFile(f"{path.name} holds no training.")
        try:
            document = json.loads(metadata[STATE_KEY])
            kept = {
                name: document[name]
                for name in _DOCUMENT
                if name in document or name not in _MAY_BE_MISSING
            }
            return cls(tensors=tensors, **kept)
        except (ValueError, KeyError, TypeError):
            raise InvalidFile(f"{path.name} holds a training that cannot be read.") from None

    def keep(self, stage: Kept, step: int) -> None:
        """Take over the modules and optimizers of a stage, as they are after a step."""
        self.stage, self.step = stage.name, step
        self.tensors = {
            name: value for name, value in self.tensors.items() if not name.startswith(_OF_A_STAGE)
        }
        for name, module in stage.modules.items():
            for part, value in module.state_dict().items():
                self.tensors[f"{name}.{part}"] = value.detach().clone()
        for name, optimizer in stage.optimizers.items():
            for number, moments in optimizer.state_dict()["state"].items():
                for part, value in moments.items():
                    self.tensors[f"optimizer.{name}.{number}.{part}"] = value.detach().clone()

    def restore_module(self, name: str, module: nn.Module) -> bool:
        """Give a module its weights back; False where none were kept.

        Raises:
            InvalidFile: what was kept is of another architecture.
        """
        prefix = f"{name}."
        weights = {
            key.removeprefix(prefix): value
            for key, value in self.tensors.items()
            if key.startswith(prefix)
        }
        try:
            if weights:
                module.load_state_dict(weights)
        except RuntimeError as error:
            raise InvalidFile(f"The training that was kept is of another {name}: {error}") from None
        return bool(weights)

    def restore(self, stage: Kept) -> None:
        """Give the modules and optimizers of a stage back what was kept of them."""
        for name, module in stage.modules.items():
            self.restore_module(name, module)
        for name, optimizer in stage.optimizers.items():
            prefix = f"optimizer.{name}."
            document = optimizer.state_dict()
            parameters = [one for group in optimizer.param_groups for one in group["params"]]
            for key, value in self.tensors.items():
                if key.startswith(prefix):
                    number, part = key.removeprefix(prefix).split(".", 1)
                    found = _laid_out_like(parameters[int(number)], value)
                    document["state"].setdefault(int(number), {})[part] = found
            optimizer.load_state_dict(document)


def _laid_out_like(parameter: Tensor, moment: Tensor) -> Tensor:
    """A moment in its parameter's order in memory, in which fused optimizers walk through both."""
    if moment.shape != parameter.shape:
        return moment
    return torch.empty_like(parameter).copy_(moment)
