from __future__ import annotations

import pytest
import torch
from tiny import CLASSES, SHAPE, striped_data, tiny_model

from datagen.model.config import JudgeConfig
from datagen.model.pieces import Pieces
from datagen.model.refinement import Refinement
from datagen.model.training_options import TrainingOptions
from datagen.quality.judge import Judge, JudgeFit

OPTIONS = TrainingOptions(batch_size=16, latent_dim=5, refine_epochs=1, judge_epochs=1, seed=2)


def tight(forward, most):
    """A forward pass that runs out of memory beyond so many images."""

    def run(image, *others):
        if len(image) > most:
            raise torch.cuda.OutOfMemoryError
        return forward(image, *others)

    return run


def test_pieces_weigh_terms_by_their_share_and_are_remembered():
    pieces, sizes = Pieces(), []
    values = torch.arange(10.0)

    def work(rows, share):
        sizes.append(len(rows))
        if len(rows) > 4:
            raise torch.cuda.OutOfMemoryError
        return {"mean": values[rows].mean()}

    begun = []
    found = pieces.run(10, work, lambda: begun.append(len(sizes)))

    assert found["mean"] == values.mean()
    assert sizes == [10, 5, 3, 3, 3, 1]
    # Each try forgot what the one before had left behind.
    assert begun == [0, 1, 2]
    pieces.run(10, work, lambda: None)
    assert sizes[6:] == [3, 3, 3, 1]


def test_a_single_row_that_does_not_fit_is_an_error():
    def work(_rows, _share):
        raise torch.cuda.OutOfMemoryError

    with pytest.raises(torch.cuda.OutOfMemoryError):
        Pieces().run(3, work, lambda: None)


def test_refinement_goes_on_with_smaller_pieces_and_the_same_terms():
    data, nothing = striped_data(32), striped_data(0)
    whole = Refinement(tiny_model(1).train().requires_grad_(), data, nothing, OPTIONS)
    small = Refinement(tiny_model(1).train().requires_grad_(), data, nothing, OPTIONS)
    discriminator = small.modules["discriminator"]
    # Spectral norms are followed at every pass, so the game itself differs from here on.
    discriminator.forward = tight(discriminator.forward, most=8)
    expected, found = whole.step(0), small.step(0)

    for name in ("reconstruction", "kl", "total"):
        torch.testing.assert_close(found[name], expected[name], rtol=0.01, atol=0.01)
    assert torch.isfinite(found["adversarial"])


def test_judge_goes_on_with_smaller_pieces():
    torch.manual_seed(0)
    judge = Judge(JudgeConfig(image_shape=SHAPE, class_count=CLASSES, width=8))
    judge.forward = tight(judge.forward, most=5)
    fit = JudgeFit(judge, striped_data(32), striped_data(0), OPTIONS)

    losses = [float(fit.step(number)["loss"]) for number in range(fit.steps)]

    assert len(losses) == 2
    assert all(0 < loss < 3 for loss in losses)
