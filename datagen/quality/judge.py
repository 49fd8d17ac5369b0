"""The judge: a classifier that scores samples. It takes no part in training the generator."""

from __future__ import annotations

import copy
import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from datagen.model.bending import bent
from datagen.model.checking import check_judge
from datagen.model.checkpoint import load_weights
from datagen.model.config import JudgeConfig
from datagen.model.data import Batches, TrainingData, generator_at
from datagen.model.decoding import tile_of
from datagen.model.devices import fast_precision
from datagen.model.header import CheckpointHeader
from datagen.model.pieces import Pieces
from datagen.model.training import Numbers, one_cycle
from datagen.model.training_options import TrainingOptions

LEARNING_RATE = 4e-3
# From this side on a CPU may learn and score in bfloat16. The strided convolution of smaller
# images sees one or two columns, and oneDNN's in bfloat16 then reads memory that nobody wrote
# (torch 2.15, AMX).
FAST_SIDE = 16
LABEL_SMOOTHING = 0.05
FEWEST_TO_CALIBRATE = 100
TEMPERATURES = (0.3, 3.0)


def gains_from_fast_precision(config: JudgeConfig, device: torch.device) -> bool:
    """Whether a judge of such images may compute in less than float32 on the device."""
    return min(config.image_shape[1:]) >= FAST_SIDE or device.type != "cpu"


class Judge(nn.Module):
    """A small convolutional classifier for any H x W x C."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        channels, height, width = config.image_shape
        self.padding = (0, width % 2, 0, height % 2)
        wide = config.width
        self.features = nn.Sequential(
            nn.PixelUnshuffle(2),
            *_convolution(4 * channels, wide),
            nn.MaxPool2d(2, ceil_mode=True),
            *_convolution(wide, 2 * wide),
            *_convolution(2 * wide, 2 * wide, stride=2),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Dropout(0.3), nn.Linear(config.feature_count, config.class_count)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to logits of the classes, (B, K)."""
        logits: Tensor = self.head(self.hidden(image))
        return logits

    def hidden(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to the features that the head reads, (B, F)."""
        features: Tensor = self.features(F.pad(image, self.padding))
        return features


def _convolution(channels: int, width: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]


class JudgeFit:
    """The training of a judge, as a stage: cross-entropy on images, half of them bent a little."""

    name = "judge"

    def __init__(
        self,
        judge: Judge,
        data: TrainingData,
        held_out: TrainingData,
        options: TrainingOptions,
        epochs: int | None = None,
    ) -> None:
        self._judge, self._data, self._held_out, self._options = judge, data, held_out, options
        self.batch_size = min(options.judge_batch_size or options.batch_size, len(data))
        labels = data.all_labels if options.balanced else None
        self._batches = Batches(len(data), self.batch_size, options.seed, self.name, labels)
        self.steps_per_epoch = self._batches.per_epoch
        self.steps = (options.judge_epochs if epochs is None else epochs) * self.steps_per_epoch
        self.modules: dict[str, nn.Module] = {self.name: judge}
        self._optimizer = torch.optim.AdamW(judge.parameters(), LEARNING_RATE, weight_decay=1e-2)
        self.optimizers: dict[str, torch.optim.Optimizer] = {self.name: self._optimizer}
        self._pieces = Pieces()
        self._device = data.device
        self._is_fast = gains_from_fast_precision(judge.config, data.device)

    def _precision(self) -> AbstractContextManager[object]:
        return fast_precision(self._device) if self._is_fast else nullcontext()

    def prepare(self) -> None:
        """Nothing: the state holds all."""

    def step(self, number: int) -> dict[str, Tensor]:
        """One step of gradient descent on a batch."""
        self._judge.train()
        image, label = self._data.rows(self._batches.rows(number))
        generator = generator_at(self._options.seed, self.name, number)
        seen = bent(image, generator)

        def work(rows: Tensor, share: float) -> dict[str, Tensor]:
            own = rows.to(image.device)
            with self._precision():
                logits = self._judge(seen[own])
            loss = F.cross_entropy(logits.float(), label[own], label_smoothing=LABEL_SMOOTHING)
            (share * loss).backward()  # type: ignore[no-untyped-call]  # torch has no type here
            return {"loss": loss}

        self._optimizer.param_groups[0]["lr"] = one_cycle(number, self.steps, LEARNING_RATE)
        with torch.random.fork_rng(devices=[image.device] if image.is_cuda else []):
            # Dropout draws from the global state, which must be left as it was.
            torch.manual_seed(generator.initial_seed())
            terms = self._pieces.run(
                len(image), work, lambda: self._optimizer.zero_grad(set_to_none=True)
            )
        self._optimizer.step()
        return terms

    def end_epoch(self, history: list[dict[str, Any]]) -> Numbers:
        """Share of held-out images whose label the judge finds."""
        del history
        found = accuracy(self._judge, self._held_out)
        return {} if found is None else {"validation_accuracy": found}

    def is_done(self, history: list[dict[str, Any]]) -> bool:
        """Never before its last step: the schedule of its learning rate is for all of them."""
        del history
        return False


@torch.no_grad()
def accuracy(judge: Judge, data: TrainingData) -> float | None:
    """Share of images whose label the judge finds; None where there are no images."""
    if not len(data):
        return None
    judge.eval()
    right = 0
    for rows in data.pieces():
        image, label = data.rows(rows)
        right += int((judge(image).argmax(dim=1) == label).sum())
    return right / len(data)


@torch.no_grad()
def calibrate(judge: Judge, held_out: TrainingData) -> float:
    """Set the temperature at which held-out labels are likeliest, and return it.

    A judge that learnt from smoothed labels says 0.95 where it is always right. Too few images say
    nothing of how often it is right, and leave the temperature at 1.

    Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", 2017.
    """
    if len(held_out) < FEWEST_TO_CALIBRATE:
        return judge.config.temperature
    judge.eval()
    pairs = [held_out.rows(rows) for rows in held_out.pieces()]
    logits = torch.cat([judge(image).double().cpu() for image, _ in pairs])
    labels = torch.cat([label.cpu() for _, label in pairs])

    def surprise(log_temperature: float) -> float:
        return float(F.cross_entropy(logits / math.exp(log_temperature), labels))

    bounds = tuple(math.log(bound) for bound in TEMPERATURES)
    found = math.exp(minimize_scalar(surprise, bounds=bounds, method="bounded").x)
    # Rounded, so that it does not tell one machine's last bits from another's.
    judge.config = judge.config.model_copy(update={"temperature": round(found, 2)})
    return judge.config.temperature


def load_judge(path: Path, device: torch.device) -> tuple[Judge, CheckpointHeader]:
    """A judge and its header. Raises InvalidFile."""
    config, header = check_judge(path)
    judge = Judge(config)
    load_weights(path, judge, device)
    return judge, header


def folded(judge: Judge) -> Judge:
    """A copy in which each normalization is part of its convolution: half the time a score.

    A normalization that has learnt is a factor and a term per channel, which the convolution before
    it can take over; probabilities differ by rounding (1e-6).
    """
    layers: list[nn.Module] = []
    for layer in copy.deepcopy(judge).eval().features:
        if isinstance(layer, nn.BatchNorm2d):
            convolution = layers.pop()
            assert isinstance(convolution, nn.Conv2d)  # noqa: S101 - for the type checker
            layers.append(fuse_conv_bn_eval(convolution, layer))
        else:
            layers.append(nn.ReLU(inplace=True) if isinstance(layer, nn.ReLU) else layer)
    quick = copy.deepcopy(judge).eval()
    quick.features = nn.Sequential(*layers)
    return quick


class Scorer:
    """A judge at work, in tiles of one fixed shape, so that a score depends on its image alone."""

    def __init__(self, judge: Judge, device: torch.device) -> None:
        self._judge = folded(judge).to(device).to(memory_format=torch.channels_last)
        # In float64: sums so long are split among threads, and their last bits would tell how many.
        self._head = copy.deepcopy(self._judge.head).double()
        self._device = device
        self._is_fast = gains_from_fast_precision(judge.config, device)

    @torch.inference_mode()
    def score(self, images: np.ndarray) -> np.ndarray:
        """Probabilities of the classes, float32 (N, K), of images uint8 (N, C, H, W)."""
        size = tile_of(self._judge.config.image_shape)
        parts = []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            tile = torch.zeros(size, *images.shape[1:])
            # A copy: the array may be a map of a file, of which torch warns.
            tile[: len(part)] = torch.tensor(part)
            pixels = tile.to(self._device, memory_format=torch.channels_last).div_(255.0)
            with fast_precision(self._device) if self._is_fast else nullcontext():
                hidden = self._judge.hidden(pixels)
            logits = self._head(hidden.double()) / self._judge.config.temperature
            parts.append(torch.softmax(logits, dim=1).float()[: len(part)].cpu().numpy())
        return np.concatenate(parts)
