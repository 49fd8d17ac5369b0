from __future__ import annotations

import pytest
import torch
from tiny import CLASS_NAMES, CLASSES, SHAPE, tiny_model

from datagen.model.warm_start import start_from

MULTI_SCALE = {"levels": 2, "stride": 2, "flow_width": 8}


def inputs(seed=0, count=6):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((count, *SHAPE), generator=generator)
    latents = torch.randn((count, 5), generator=generator)
    return images, latents


def same(model, parent, labels, parent_labels):
    images, latents = inputs(count=len(labels))
    own = torch.tensor(labels), torch.tensor(parent_labels)
    encoded = [one.encoder(images, label) for one, label in zip((model, parent), own, strict=True)]
    decoded = [one.decode(latents, label) for one, label in zip((model, parent), own, strict=True)]
    return torch.equal(encoded[0][0], encoded[1][0]) and torch.equal(*decoded)


@pytest.mark.parametrize("changes", [{}, MULTI_SCALE])
@pytest.mark.parametrize("family", ["autoencoder", "vae", "cvae"])
def test_model_with_the_labels_of_its_parent_computes_the_same(family, changes):
    parent = tiny_model(1, family=family, **changes)
    model = tiny_model(2, family=family, **changes)
    start_from(model, parent, CLASS_NAMES, CLASS_NAMES)

    assert same(model, parent, [0, 1, 2], [0, 1, 2])
    if model.flow is not None:
        noise, label = torch.randn(3, 5), torch.tensor([0, 1, 2])
        assert torch.equal(model.flow.transport(noise, label), parent.flow.transport(noise, label))


@pytest.mark.parametrize("changes", [{}, MULTI_SCALE])
@pytest.mark.parametrize("null_label", [False, True])
def test_labels_keep_their_embeddings_by_name_and_new_ones_begin_at_the_mean(changes, null_label):
    parent = tiny_model(1, null_label=null_label, **changes)
    model = tiny_model(2, class_count=2, **changes)
    start_from(model, parent, ("class 2", "new"), CLASS_NAMES)

    assert same(model, parent, [0], [2])
    part = model.encoder.conditions if changes else model.encoder
    theirs = parent.encoder.conditions if changes else parent.encoder
    expected = theirs.label.weight[:CLASSES].mean(dim=0)
    assert torch.equal(part.label.weight[1], expected)


def test_null_label_is_kept_where_both_have_one():
    parent, model = tiny_model(1, null_label=True), tiny_model(2, null_label=True, class_count=1)
    start_from(model, parent, ("class 1",), CLASS_NAMES)

    assert torch.equal(model.decoder.label.weight[1], parent.decoder.label.weight[CLASSES])


@pytest.mark.parametrize("networks", [MULTI_SCALE, {}])
def test_transforms_that_the_parent_did_not_see_change_nothing_at_first(networks):
    parent = tiny_model(1, **networks)
    model = tiny_model(2, transform_condition=True, **networks)
    start_from(model, parent, CLASS_NAMES, CLASS_NAMES)

    images, latents = inputs(count=3)
    label, transform = torch.tensor([0, 1, 2]), torch.ones(3, 5)
    assert torch.equal(model.encoder(images, label, transform)[0], parent.encoder(images, label)[0])
    assert torch.equal(model.decode(latents, label, transform), parent.decode(latents, label))


def test_what_is_fitted_after_training_is_not_taken_over():
    parent, model = tiny_model(1, components=2), tiny_model(2, components=1)
    before = model.prior.mean.clone(), model.density.mean.clone()
    start_from(model, parent, CLASS_NAMES, CLASS_NAMES)

    assert torch.equal(model.prior.mean, before[0])
    assert torch.equal(model.density.mean, before[1])


def test_flow_of_another_size_begins_anew():
    parent = tiny_model(1, **MULTI_SCALE)
    model = tiny_model(2, **(MULTI_SCALE | {"flow_width": 16}))
    before = model.flow.start.weight.clone()
    start_from(model, parent, CLASS_NAMES, CLASS_NAMES)

    assert torch.equal(model.flow.start.weight, before)
    assert same(model, parent, [0, 1, 2], [0, 1, 2])


@pytest.mark.parametrize("family", ["vae", "autoencoder"])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_networks_that_see_no_label_are_taken_over_whole_whatever_the_labels(family, classes):
    parent = tiny_model(1, family=family, **MULTI_SCALE)
    model = tiny_model(2, family=family, class_count=classes, **MULTI_SCALE)
    start_from(model, parent, [f"new {number}" for number in range(classes)], CLASS_NAMES)

    assert same(model, parent, [0], [0])
    assert torch.equal(model.flow.label.weight, parent.flow.label.weight)


def test_model_without_transforms_leaves_those_of_its_parent_behind():
    parent = tiny_model(1, transform_condition=True, **MULTI_SCALE)
    model = tiny_model(2, **MULTI_SCALE)
    start_from(model, parent, CLASS_NAMES, CLASS_NAMES)

    assert same(model, parent, [0, 1, 2], [0, 1, 2])
