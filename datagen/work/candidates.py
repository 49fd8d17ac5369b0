"""Candidates: images drawn, decoded and scored, until one of each passes the job's gate.

A candidate is drawn from its index and attempt alone and is judged by itself, and an image is the
first of its candidates that passes: whatever is drawn beside it, ahead of need, changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from datagen.images import encode_png
from datagen.model.decoding import tile_of
from datagen.model.grain import Grain, with_grain
from datagen.model.samplers import Sampling, draw_latents
from datagen.quality.gate import PASSED, judged
from datagen.schemas import Gate
from datagen.service.batch_work import UNLABELLED, Refused
from datagen.shards import SampleBatch
from datagen.work.generators import Generator
from datagen.work.stopwatch import Stopwatch


@dataclass(frozen=True)
class Wanted:
    """Images to be made, by columns: int64 (N,) each.

    Attributes:
        index: rising.
        attempt: the first that counts for each.
        label: UNLABELLED where the judge is to say.
    """

    index: np.ndarray
    attempt: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, chosen: np.ndarray) -> Wanted:
        """Those of the numbered rows."""
        return Wanted(self.index[chosen], self.attempt[chosen], self.label[chosen])

    def ahead(self, most: int, limit: int) -> tuple[Wanted, np.ndarray]:
        """Up to `most` attempts of each image, none beyond `limit`, and the row that each is of."""
        counts = np.minimum(most, limit - self.attempt)
        row = np.repeat(np.arange(len(self)), counts)
        step = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        return Wanted(self.index[row], self.attempt[row] + step, self.label[row]), row


@dataclass(frozen=True)
class _Judged:
    """What the gate says of candidates (N,), and the samples of those that pass."""

    reasons: np.ndarray
    judged_labels: np.ndarray
    passing: np.ndarray
    samples: SampleBatch


@dataclass(frozen=True)
class Drawing:
    """How images are drawn.

    Attributes:
        sampling: where latents come from.
        seed: the job's.
        gate: what a candidate must pass; None lets every one pass.
    """

    sampling: Sampling
    seed: int
    gate: Gate | None


class Candidates:
    """Draws candidates and chooses the images among them.

    Args:
        drawing: how.
        generator: of what model.
        watch: told where the time goes.
        check: called at every tile; raises to stop.
    """

    def __init__(
        self,
        drawing: Drawing,
        generator: Generator,
        watch: Stopwatch,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._drawing, self._generator = drawing, generator
        self._watch, self._check = watch, check
        self._tile = tile_of(generator.model.config.image_shape)

    def make(self, wanted: Wanted) -> tuple[SampleBatch, Refused | None]:
        """One sample of each image that is wanted, but for those that the gate leaves out.

        Raises:
            InvalidRequest: a gate for copies, and a model that keeps no training index.
        """
        gate = self._drawing.gate
        if gate is None:
            return self._draw(wanted).samples, None
        found: list[SampleBatch] = []
        refused: list[Refused] = []
        most = 1
        while True:
            pending, short = _still_possible(wanted, gate.max_attempts)
            drawn, row = pending.ahead(most, gate.max_attempts)
            made = self._draw(drawn)
            # For each image the first candidate that passes; what was drawn beyond it never was.
            first = np.full(len(pending), len(drawn))
            np.minimum.at(first, row[made.passing], made.passing)
            taken = made.passing == first[row[made.passing]]
            found.append(made.samples.rows(np.flatnonzero(taken)))
            counted = np.flatnonzero(np.arange(len(drawn)) < first[row])
            refused.append(
                Refused(
                    drawn.index[counted],
                    made.reasons[counted],
                    made.judged_labels[counted],
                    short,
                )
            )
            missing = np.flatnonzero(first == len(drawn))
            if not len(missing):
                return SampleBatch.joined(found), Refused.joined(refused)
            tried = np.bincount(row, minlength=len(pending))
            wanted = Wanted(
                pending.index[missing],
                pending.attempt[missing] + tried[missing],
                pending.label[missing],
            )
            # A tile is decoded whole; what few images leave of it, further attempts fill.
            most = max(1, self._tile // len(wanted))

    def _draw(self, wanted: Wanted) -> _Judged:
        """Draw, decode and score candidates, and encode those that pass, tile by tile."""
        generator, watch = self._generator, self._watch
        # Networks that see no label are given any; the judge then says what came out.
        judged_alone = bool(np.any(wanted.label == UNLABELLED))
        given = np.zeros_like(wanted.label) if judged_alone else wanted.label
        with watch.stage("latents"):
            drawn = draw_latents(
                generator.model,
                self._drawing.sampling,
                self._drawing.seed,
                wanted.index,
                wanted.attempt,
                given,
                generator.examples,
            )
        pngs: list[bytes] = []
        labels, scores, found, reasons = (_Column() for _ in range(4))
        tiles = generator.decoder.tiles(drawn.latents, given)
        start = 0
        while True:
            with watch.stage("decode"):
                images = next(tiles, None)
            if images is None:
                break
            smooth, part = images, slice(start, start + len(images))
            with watch.stage("decode"):
                images = with_grain(
                    smooth,
                    Grain.of(generator.model.config),
                    self._drawing.seed,
                    wanted.index[part],
                    wanted.attempt[part],
                )
            with watch.stage("score"):
                probabilities = generator.scorer.score(images)
                judged_label = probabilities.argmax(axis=1).astype(np.int64)
                label = judged_label if judged_alone else given[part]
                score = probabilities[np.arange(len(label)), label].astype(np.float64).round(4)
                # Noise hides no copy.
                reason = self._reasons(smooth, label, score)
            with watch.stage("encode"):
                pngs += encode_png(
                    images if self._drawing.gate is None else images[reason == PASSED]
                )
            for column, values in zip(
                (labels, scores, found, reasons), (label, score, judged_label, reason), strict=True
            ):
                column.append(values)
            start += len(images)
            self._check()
        with watch.stage("encode"):
            digests = [hashlib.sha256(png).digest() for png in pngs]
        why = reasons.whole(np.int64)
        passing = np.flatnonzero(why == PASSED)
        samples = SampleBatch(
            indices=wanted.index[passing],
            labels=labels.whole(np.int64)[passing],
            scores=scores.whole(np.float64)[passing],
            judged_labels=found.whole(np.int64)[passing],
            attempts=wanted.attempt[passing],
            sources=drawn.sources[passing],
            digests=digests,
            images=pngs,
        )
        return _Judged(why, found.whole(np.int64), passing, samples)

    def _reasons(self, images: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        gate = self._drawing.gate
        if gate is None:
            return np.full(len(images), PASSED)
        return judged(gate, images, labels, scores, self._generator.index)


class _Column(list[np.ndarray]):
    """Values of a column, tile by tile."""

    def whole(self, kind: type[np.generic]) -> np.ndarray:
        """All of them as one array; an empty one where there are none."""
        return np.concatenate([np.zeros(0, kind), *self])


def _still_possible(wanted: Wanted, limit: int) -> tuple[Wanted, np.ndarray]:
    """The images that have an attempt left, and the indices of those that have none."""
    left = wanted.attempt < limit
    return wanted.rows(np.flatnonzero(left)), wanted.index[~left]
