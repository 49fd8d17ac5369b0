"""Warm start: the first weights of a model are those of an earlier one, its parent.

What the parent learnt about pictures is kept whatever the labels: a label that both know keeps its
embedding, a new one begins at the mean of those that the parent knows, and what belonged to a label
that is gone is left behind. The flow is taken over, too; normals and mixtures, which are fitted to
the posteriors after training, are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from datagen.model.autoencoders import Autoencoder

# A row for each label.
_LABEL_ROWS = ("label.weight", "prior_mean.weight", "prior_logvar.weight")
# Normals and mixtures, which are fitted to the posteriors after training.
_FITTED = ("prior.", "density.")


@torch.no_grad()
def start_from(
    model: Autoencoder,
    parent: Autoencoder,
    class_names: Sequence[str],
    parent_class_names: Sequence[str],
) -> None:
    """Give a model the weights of its parent, whose networks have the same sizes.

    Where both know the same labels in the same order, the model then computes what the parent does.

    Args:
        model: with fresh weights; changed in place.
        parent: whose weights are taken.
        class_names: the labels of `model`, in order.
        parent_class_names: the labels of `parent`, in order.
    """
    known = {name: number for number, name in enumerate(parent_class_names)}
    sources = [known.get(name) for name in class_names]
    # Where the networks see no label, the flow has one row for all of them.
    is_by_label = model.config.is_conditional
    taken = parent.state_dict()
    weights = model.state_dict()
    for name, own in weights.items():
        if name.startswith(_FITTED):
            continue
        theirs = taken.get(name)
        if theirs is not None and is_by_label and name.endswith(_LABEL_ROWS):
            if theirs.shape[1:] == own.shape[1:]:
                own.copy_(_label_rows(theirs, own, sources, len(parent_class_names)))
        elif theirs is not None and theirs.shape == own.shape:
            own.copy_(theirs)
        elif name.endswith("transform.weight"):
            # The parent saw no transforms; at first they change nothing.
            own.zero_()
    model.load_state_dict(weights)


def _label_rows(
    theirs: Tensor, own: Tensor, sources: Sequence[int | None], parent_classes: int
) -> Tensor:
    """Rows for the labels of a model, and for its null label where there is one behind them.

    Args:
        theirs: rows of the parent, (labels, ...).
        own: rows of the model, (labels, ...), for their number.
        sources: row of the parent for each label of the model; None for a new label.
        parent_classes: labels of the parent, without the null label.
    """
    mean = theirs[:parent_classes].mean(dim=0)
    rows = [mean if source is None else theirs[source] for source in sources]
    has_null = len(theirs) > parent_classes
    rows += [theirs[parent_classes] if has_null else mean] * (len(own) - len(sources))
    return torch.stack(rows)
