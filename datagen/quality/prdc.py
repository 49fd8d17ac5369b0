"""Precision, recall, density and coverage of generated features among real ones, in chunks.

Kynkäänniemi et al., 2019 (precision, recall), and Naeem et al., 2020 (density, coverage). A sphere
round each point reaches to its k-th neighbour of the same set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

NEIGHBOURS = 5
# Distances held at once: a quarter of this many rows of 50,000 would do, and more is no faster.
CHUNK_VALUES = 1 << 24


@dataclass(frozen=True)
class Prdc:
    """Shares from 0 to 1, but for the density, which may be above.

    Attributes:
        precision: generated images that lie among the real ones.
        recall: real images that lie among the generated ones.
        density: real spheres that a generated image lies in, over k; steadier than precision.
        coverage: real images with a generated one in their sphere.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: np.ndarray, made: np.ndarray, neighbours: int = NEIGHBOURS) -> Prdc:
    """All four, in memory that grows with N + M and not with N x M.

    Args:
        real: features (N, F), more than `neighbours` of them.
        made: features (M, F), likewise.
        neighbours: k.
    """
    # About the middle, where differences of squares lose the least.
    middle = real.mean(axis=0, dtype=np.float64)
    reals = torch.from_numpy((real - middle).astype(np.float32))
    mades = torch.from_numpy((made - middle).astype(np.float32))
    reach, own_reach = _reach(reals, neighbours), _reach(mades, neighbours)
    precise = inside = 0
    recalled = torch.zeros(len(reals), dtype=torch.bool)
    nearest = torch.full((len(reals),), torch.inf)
    for start, apart in _distances(mades, reals):
        within = apart <= reach  # (m, N)
        precise += int(within.any(dim=1).sum())
        inside += int(within.sum())
        recalled |= (apart <= own_reach[start : start + len(apart), None]).any(dim=0)
        nearest = torch.minimum(nearest, apart.amin(dim=0))
    return Prdc(
        precision=precise / len(mades),
        recall=float(recalled.float().mean()),
        density=inside / (neighbours * len(mades)),
        coverage=float((nearest <= reach).float().mean()),
    )


def _reach(points: Tensor, neighbours: int) -> Tensor:
    """Squared distance of each point to its k-th neighbour, (N,)."""
    found = []
    for start, apart in _distances(points, points):
        rows = torch.arange(len(apart))
        apart[rows, start + rows] = torch.inf
        found.append(apart.topk(neighbours, dim=1, largest=False, sorted=True).values[:, -1])
    return torch.cat(found)


def nearest_neighbours(points: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (N,) of each point to the nearest of others, and its row, in chunks.

    Where both are the same array, a point is no neighbour of itself.
    """
    one, two = (torch.from_numpy(each.astype(np.float32)) for each in (points, among))
    distances, rows = [], []
    for start, apart in _distances(one, two):
        if points is among:
            own = torch.arange(len(apart))
            apart[own, start + own] = torch.inf
        least = apart.min(dim=1)
        distances.append(least.values.clamp_min(0.0).sqrt())
        rows.append(least.indices)
    return torch.cat(distances).numpy(), torch.cat(rows).numpy()


def _distances(one: Tensor, two: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Squared distances of some rows of `one` to all of `two`, with the first row's number."""
    squares = two.square().sum(dim=1)
    size = max(1, CHUNK_VALUES // max(1, len(two)))
    for start in range(0, len(one), size):
        part = one[start : start + size]
        apart = torch.addmm(squares[None], part, two.T, alpha=-2.0)
        yield start, apart.add_(part.square().sum(dim=1)[:, None]).clamp_(min=0.0)
