"""Optimizers of a generator: AdamW alone, or beside Muon.

Muon (Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024) makes the update of a
weight matrix orthogonal: all of its directions learn at one pace, and a few hundred steps do what
takes AdamW a thousand and more. It is for matrices alone; what is left goes to AdamW.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datagen.model.training_options import OptimizerName

ADAMW, MUON = "fit", "muon"
# Of Muon, for each of AdamW's.
RATE_RATIO = 40.0 / 3.0
MOMENTUM = 0.95
BETAS = (0.9, 0.99)
# Below, the matrix has too few directions for their pace to matter.
FEWEST_DIRECTIONS = 16


class Optimizers:
    """What takes the steps of some weights of a module.

    Args:
        module: whose layers say which weights are matrices.
        parameters: the weights that learn.
        name: `adamw`, or `muon` for Muon beside it.
        learning_rate: AdamW's.

    Attributes:
        by_name: the optimizers, for the state of a training.
    """

    def __init__(
        self,
        module: nn.Module,
        parameters: list[nn.Parameter],
        name: OptimizerName,
        learning_rate: float,
    ) -> None:
        self._matrices: list[nn.Parameter] = []
        self._views: list[nn.Parameter] = []
        self._rates = {ADAMW: 1.0}
        self.by_name: dict[str, torch.optim.Optimizer] = {}
        if name == "muon":
            learning = {id(one) for one in parameters}
            self._matrices = [one for one in hidden_weights(module) if id(one) in learning]
            chosen = {id(weight) for weight in self._matrices}
            parameters = [one for one in parameters if id(one) not in chosen]
            self._views = [nn.Parameter(_matrix(one.data, one)) for one in self._matrices]
            self._rates[MUON] = RATE_RATIO
            self.by_name[ADAMW] = torch.optim.AdamW(
                parameters, learning_rate, BETAS, weight_decay=0.0, fused=True
            )
        else:
            self.by_name[ADAMW] = torch.optim.AdamW(parameters, learning_rate, fused=True)
        if self._views:
            self.by_name[MUON] = torch.optim.Muon(
                self._views, learning_rate * RATE_RATIO, weight_decay=0.0, momentum=MOMENTUM
            )

    def step(self, learning_rate: float) -> None:
        """Take a step along the gradients that the weights have."""
        for view, weight in zip(self._views, self._matrices, strict=True):
            view.grad = None if weight.grad is None else _matrix(weight.grad, weight)
        for name, optimizer in self.by_name.items():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * self._rates[name]
            optimizer.step()

    def forget_gradients(self) -> None:
        """Before the gradients of another batch."""
        for optimizer in self.by_name.values():
            optimizer.zero_grad(set_to_none=True)
        for weight in self._matrices:
            weight.grad = None


def hidden_weights(module: nn.Module) -> list[nn.Parameter]:
    """Weights of linear and convolutional layers with enough directions; no embeddings."""
    weights = [
        layer.get_parameter("weight")
        for layer in module.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    ]
    return [one for one in weights if min(len(one), one[0].numel()) >= FEWEST_DIRECTIONS]


def _matrix(values: Tensor, weight: Tensor) -> Tensor:
    """Weights or gradients as a matrix (outputs, inputs); of the weight itself it is a view."""
    if weight.dim() == 2:  # noqa: PLR2004 - a matrix already
        return values
    if weight.is_contiguous(memory_format=torch.channels_last):
        return values.permute(0, 2, 3, 1).flatten(1)
    return values.flatten(1)
