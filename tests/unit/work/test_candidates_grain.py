from __future__ import annotations

import numpy as np
from tiny import CPU, opinionated_judge, tiny_model

from datagen.model.decoding import Decoder
from datagen.model.samplers import Sampling, draw_latents
from datagen.quality.gate import COPY
from datagen.quality.judge import Scorer
from datagen.quality.training_index import index_of
from datagen.schemas import Gate
from datagen.work.candidates import Candidates, Drawing, Wanted
from datagen.work.generators import Generator
from datagen.work.stopwatch import Stopwatch

SEED = 11
LABELS = 3
ONLY_COPIES = Gate(min_score=0.0, reject_copies=True, reject_duplicates=False)


def grained_generator(grain=(20.0,), **changes):
    model = tiny_model(0)
    model.config = model.config.model_copy(update={"grain": grain})
    scorer = Scorer(opinionated_judge(model), CPU)
    return Generator(model, Decoder(model, CPU), scorer, **changes)


def test_grain_is_the_same_whatever_is_drawn_with_an_image():
    drawing = Drawing(Sampling(), SEED, None)
    generator = grained_generator()

    def images(index):
        wanted = Wanted(index, np.zeros_like(index), index % LABELS)
        return Candidates(drawing, generator, Stopwatch()).make(wanted)[0].images

    whole = images(np.arange(30))
    assert images(np.arange(12, 20)) == whole[12:20]
    smooth = (
        Candidates(drawing, grained_generator(()), Stopwatch())
        .make(Wanted(np.arange(30), np.zeros(30, dtype=np.int64), np.arange(30) % LABELS))[0]
        .images
    )
    assert not set(smooth) & set(whole)


def test_grain_hides_no_copy():
    drawing = Drawing(Sampling(), SEED, ONLY_COPIES)
    smooth = grained_generator(())
    index = np.arange(30)
    labels = index % LABELS
    drawn = draw_latents(smooth.model, Sampling(), SEED, index, 0 * index, labels)
    pictures = np.concatenate(list(smooth.decoder.tiles(drawn.latents, labels)))
    copied = index_of(pictures.__getitem__, labels, LABELS)
    wanted = Wanted(index, 0 * index, labels)
    refused = []
    for grain in ((), (20.0,)):
        generator = grained_generator(grain, index=copied)
        found = Candidates(drawing, generator, Stopwatch())._draw(wanted)
        refused.append(found.reasons == COPY)

    assert refused[0].any()
    assert np.array_equal(*refused)
