"""The classifiers that learn from images, and what is counted of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from datagen.images import LabelledImages
from datagen.quality.learning import Learning, Part, learn, predicted


class Symmetric(nn.Module):
    """Pixels from [0, 1] to [-1, 1], as the published protocols have them."""

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return image * 2.0 - 1.0


def logistic(channels: int, side: int, classes: int) -> nn.Module:
    """Logistic regression on pixels."""
    return nn.Sequential(Symmetric(), nn.Flatten(), nn.Linear(channels * side * side, classes))


def mlp(channels: int, side: int, classes: int) -> nn.Module:
    """784-100-10."""
    return nn.Sequential(
        Symmetric(),
        nn.Flatten(),
        nn.Linear(channels * side * side, 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )


def protocol_cnn(channels: int, side: int, classes: int) -> nn.Module:
    """Track A's: 32, 64 and 128 channels, kernels of 3 without padding, two poolings."""
    left = ((side - 2) // 2 - 2) // 2 - 2
    return nn.Sequential(
        Symmetric(),
        nn.Conv2d(channels, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(128 * left * left, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, classes),
    )


def small_cnn(channels: int, side: int, classes: int, width: int = 16) -> nn.Module:
    """Five convolutions with batch normalization; what the bar of track B was measured with."""
    del side

    def convolution(before: int, after: int) -> list[nn.Module]:
        return [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]

    return nn.Sequential(
        *convolution(channels, width),
        *convolution(width, width),
        nn.MaxPool2d(2),
        *convolution(width, 2 * width),
        *convolution(2 * width, 2 * width),
        nn.MaxPool2d(2),
        *convolution(2 * width, 4 * width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )


def resnet(channels: int, side: int, classes: int) -> nn.Module:
    """Torchvision's ResNet-18, its first layer for so many channels."""
    del side
    network: nn.Module = resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return network


CLASSIFIERS = {
    "logistic": logistic,
    "mlp": mlp,
    "cnn": protocol_cnn,
    "small_cnn": small_cnn,
    "resnet18": resnet,
}


@dataclass(frozen=True)
class Counted:
    """What a classifier gets right of a balanced test set.

    Attributes:
        accuracy: share of all images.
        acsa: average class-specific accuracy, the mean of the classes' recalls.
        gm: mean over the classes of the geometric mean of recall and specificity.
        f1: mean over the classes of F1.
        per_class: recall of each class.
    """

    accuracy: float
    acsa: float
    gm: float
    f1: float
    per_class: list[float]


def counted(found: np.ndarray, labels: np.ndarray, classes: int) -> Counted:
    """Count predicted labels (N,) against true ones (N,)."""
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (labels, found), 1)
    hits = np.diag(confusion)
    recall = hits / np.maximum(1, confusion.sum(axis=1))
    precision = hits / np.maximum(1, confusion.sum(axis=0))
    others = len(labels) - confusion.sum(axis=1)
    specificity = 1 - (confusion.sum(axis=0) - hits) / np.maximum(1, others)
    f1 = 2 * precision * recall / np.maximum(1e-12, precision + recall)
    return Counted(
        accuracy=float((found == labels).mean()),
        acsa=float(recall.mean()),
        gm=float(np.sqrt(recall * specificity).mean()),
        f1=float(f1.mean()),
        per_class=[round(float(value), 5) for value in recall],
    )


def tested(
    name: str,
    parts: Sequence[Part],
    learning: Learning,
    seed: int,
    held_out: LabelledImages,
    device: torch.device,
) -> Counted:
    """What a classifier of a kind, having learnt from some images, gets right of others.

    The seed decides all of it, on one kind of device.
    """
    channels, side, _ = held_out.image_shape
    classes = len(held_out.class_names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CLASSIFIERS[name](channels, side, classes)
    learn(network, parts, learning, seed=seed, device=device)
    found = predicted(network, held_out.images, device).argmax(axis=1)
    return counted(found, held_out.labels, classes)
