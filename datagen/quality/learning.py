"""Learning: how a classifier is trained on real images, synthetic ones, or both.

What a set of images is worth is told by what is learnt from it. All arms of a comparison take the
same number of steps of the same size, so that more images are never more training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor, nn

from datagen.model.bending import bent
from datagen.model.data import TrainingData, generator_at, looked_at_once
from datagen.model.devices import fast_precision
from datagen.model.training import one_cycle


@dataclass(frozen=True)
class Part:
    """Images that make up a share of every batch.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        share: of the batch; the shares of all parts add up to 1.
        balanced: draw every class equally often, and not every image.
        affine: turn, scale, shear and shift half of the images a little.
        weights: of each class in the loss, float (K,); None weighs all alike.
    """

    images: np.ndarray
    labels: np.ndarray
    share: float = 1.0
    balanced: bool = False
    affine: bool = False
    weights: np.ndarray | None = None


@dataclass(frozen=True)
class Learning:
    """How long and how fast a classifier learns.

    Attributes:
        steps: of gradient descent.
        batch_size: images a step.
        learning_rate: the largest.
        constant: keep it, with plain Adam; else it rises and falls once, with AdamW.
        fast: compute in bfloat16 where the device gains from it. Not for the judge's networks on
            small images (`gains_from_fast_precision`): gradients of their strided convolution over
            two or three positions read memory that nobody wrote (torch 2.15 with AMX), and the
            weights were never twice the same.
    """

    steps: int
    batch_size: int = 128
    learning_rate: float = 3e-3
    constant: bool = False
    fast: bool = True


class _Drawn:
    """The images of a part, as a classifier's training draws them."""

    def __init__(self, part: Part, count: int, name: str, device: torch.device) -> None:
        self._part, self._count, self._name = part, count, name
        self._data = TrainingData.on(device, part.images, part.labels)
        self._labels = torch.from_numpy(part.labels)
        self._order = torch.argsort(self._labels, stable=True)
        self._known, self._counts = torch.unique(self._labels, return_counts=True)
        self._first = self._counts.cumsum(0) - self._counts
        weights = np.ones(int(self._known[-1]) + 1) if part.weights is None else part.weights
        self._weights = torch.from_numpy(weights).float().to(device)

    def batch(self, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images in [0, 1], labels, and weights in the loss, of one step."""
        generator = generator_at(seed, self._name, step)
        drawn = torch.rand(2, self._count, generator=generator, dtype=torch.float64)
        if self._part.balanced:
            known = (drawn[0] * len(self._known)).long()
            place = self._first[known] + (drawn[1] * self._counts[known]).long()
            rows = self._order[place]
        else:
            rows = (drawn[0] * len(self._labels)).long()
        image, label = self._data.rows(rows)
        weight = self._weights[label]
        if self._part.affine:
            image = bent(image, generator)
        return image, label, weight


def learn(
    network: nn.Module,
    parts: Sequence[Part],
    learning: Learning,
    *,
    seed: int,
    device: torch.device,
    check: Callable[[], None] = lambda: None,
) -> nn.Module:
    """Train a classifier in place; the same seed and device give the same weights.

    Args:
        network: images (B, C, H, W) in [0, 1] to logits (B, K).
        parts: what a batch is made of.
        learning: how.
        seed: of the order, the bending and the dropout.
        device: where to compute.
        check: called at every step; raises to stop.
    """
    network = network.to(device).to(memory_format=torch.channels_last).train()
    drawn = [
        _Drawn(part, count, f"learn-{number}", device)
        for number, (part, count) in enumerate(
            zip(parts, _counts(parts, learning.batch_size), strict=True)
        )
        if count
    ]
    rate = learning.learning_rate
    if learning.constant:
        optimizer: torch.optim.Optimizer = torch.optim.Adam(network.parameters(), rate, fused=True)
    else:
        optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-2, fused=True)
    precision = partial(fast_precision, device) if learning.fast else nullcontext
    # Dropout draws from the global state, which must be left as it was.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for step in range(learning.steps):
            check()
            batches = [each.batch(seed, step) for each in drawn]
            image, label, weight = (torch.cat(values) for values in zip(*batches, strict=True))
            image = image.to(memory_format=torch.channels_last)
            if not learning.constant:
                optimizer.param_groups[0]["lr"] = one_cycle(step, learning.steps, rate)
            torch.manual_seed(generator_at(seed, "dropout", step).initial_seed())
            with precision():
                if step == 0 and device.type == "cuda":
                    _record(network, image)
                logits = network(image)
            losses = F.cross_entropy(logits.float(), label, reduction="none")
            optimizer.zero_grad(set_to_none=True)
            (weight * losses).mean().backward()  # type: ignore[no-untyped-call]  # torch has no type here
            optimizer.step()
    if "forward" in vars(network):
        del network.forward  # Its recording, and the memory that it holds.
    return network.eval()


def _record(network: nn.Module, image: Tensor) -> None:
    """Have a GPU replay the network's kernels, forward and back: for images as small as a
    classifier's here, launching each takes many times as long as computing it.

    The statistics of batch normalization see the first batch a few times more.
    """  # noqa: D205 - one sentence
    # Gradients of the recording come from a stream of its own; torch would warn of each network.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    torch.cuda.make_graphed_callables(network, (image,))


def _counts(parts: Sequence[Part], size: int) -> list[int]:
    """Images of each part in a batch: the largest remainders make up for the rounding."""
    exact = [part.share * size for part in parts]
    counts = [int(value) for value in exact]
    order = sorted(range(len(parts)), key=lambda number: counts[number] - exact[number])
    for number in order[: size - sum(counts)]:
        counts[number] += 1
    return counts


@torch.inference_mode()
def predicted(
    network: nn.Module, images: np.ndarray, device: torch.device, *, fast: bool = True
) -> np.ndarray:
    """Probabilities of the classes, float32 (N, K), of images uint8 (N, C, H, W).

    `fast` computes in bfloat16 where the device gains from it; see `Learning`.
    """
    network.eval()
    size = looked_at_once(int(np.prod(images.shape[1:])))
    found = []
    for start in range(0, len(images), size):
        # A copy: the array may be a map of a file, of which torch warns.
        image = torch.tensor(images[start : start + size]).to(device).float().div_(255.0)
        with fast_precision(device) if fast else nullcontext():
            logits = network(image.to(memory_format=torch.channels_last))
        found.append(torch.softmax(logits.float(), dim=1).cpu().numpy())
    return np.concatenate(found)
