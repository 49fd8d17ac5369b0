"""Batches that a GPU has not the memory for: taken in more and smaller pieces, to the same end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Terms = dict[str, Tensor]


@dataclass
class Pieces:
    """In how many pieces a batch is worked through.

    Gradients add up over the pieces, each weighed by its share of the batch. A number that was
    found once is kept for the batches that follow.
    """

    count: int = 1

    def run(
        self, size: int, work: Callable[[Tensor, float], Terms], begin: Callable[[], None]
    ) -> Terms:
        """Work through a batch; the sums of the terms, each weighed by its piece's share.

        Args:
            size: rows of the batch.
            work: does one piece, backward pass included, given its rows int64 (n,) and its share
                of the batch; returns terms as means over the piece.
            begin: forgets the gradients of a try that ran out of memory.

        Raises:
            torch.cuda.OutOfMemoryError: one row alone takes more than there is.
        """
        while True:
            begin()
            sums: Terms = {}
            try:
                for rows in torch.arange(size).chunk(self.count):
                    share = len(rows) / size
                    for name, value in work(rows, share).items():
                        sums[name] = sums.get(name, 0.0) + share * value.detach()
            except torch.cuda.OutOfMemoryError:
                if self.count >= size:
                    raise
                torch.cuda.empty_cache()
                self.count *= 2
            else:
                return sums
