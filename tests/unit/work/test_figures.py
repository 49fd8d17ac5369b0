from __future__ import annotations

import io
import json
import zipfile
from uuid import UUID

import pytest
import torch
from PIL import Image
from tiny import CPU, striped_images, tiny_model

from datagen.db.session import reading, writing
from datagen.db.tables import Figures
from datagen.images import LabelledImages
from datagen.model.autoencoders import make_generator
from datagen.model.config import GeneratorConfig
from datagen.plots import render
from datagen.queue import RUN_FIGURES
from datagen.schemas import FiguresCreate
from datagen.service import figures
from datagen.work.drawing import DRAWINGS, Subject
from datagen.work.figures import run_figures

HISTORY = [
    {
        "stage": stage, "epoch": 1, "reconstruction": 9.0, "kl": 2.0, "total": 11.0,
        "validation_reconstruction": 9.5, "validation_kl": 2.0, "validation_total": 11.5,
    }
    for stage in ("judge", "fit", "refine")
]  # fmt: skip


def subject(*, real=True, shape=(1, 9, 7), classes=3, history=True, **changes):
    if changes or shape != (1, 9, 7) or classes != 3:
        plain = {
            "image_shape": shape, "class_count": classes, "latent_dim": 5, "width": 8,
            "encoder_width": 8, "blocks": 1,
        }  # fmt: skip
        torch.manual_seed(0)
        model = make_generator(GeneratorConfig.model_validate(plain | changes)).eval()
        # As loaded.
        model.requires_grad_(requires_grad=False)
    else:
        model = tiny_model()
    names = tuple(f"class $_{number}" for number in range(classes))
    splits = {}
    if real:
        for split, count in (("train", 40), ("test", 20)):
            images = striped_images(count, shape=shape, classes=classes, seed=count)
            splits[split] = LabelledImages(*images, names)
    metrics = {"history": HISTORY if history else [], "prior": "normal"}
    return Subject.of(model, CPU, "mine@1", names, metrics, splits)


KINDS = {
    "cvae": {},
    "vae": {"family": "vae"},
    "autoencoder": {"family": "autoencoder"},
    "colour": {"shape": (3, 8, 10)},
    "one dimension": {"latent_dim": 1},
    "two dimensions": {"latent_dim": 2},
    "one class": {"classes": 1},
    "many classes": {"classes": 30},
    "no real images": {"real": False},
    "multi-scale networks with a flow": {"levels": 1, "stride": 2, "flow_width": 8},
    "multi-scale networks in colour": {"shape": (3, 12, 9), "levels": 2, "stride": 2},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_is_drawn_of_every_kind_of_model(kind):
    drawn = {name: draw(subject(**KINDS[kind])) for name, draw in DRAWINGS.items()}

    left_out = {name for name, one in drawn.items() if one is None}
    expected = set()
    if kind in {"vae", "autoencoder"}:
        expected = {"same-z"}
    if kind == "no real images":
        expected = {"kl-per-dimension", "latent-scatter", "interpolation", "reconstructions"}
    if kind == "many classes":
        # Twenty images of thirty classes: none has two, from one to the other.
        expected = {"interpolation"}
    assert left_out == expected
    for one in drawn.values():
        if one is not None:
            assert one.caption.endswith(".")
            json.dumps(one.numbers, allow_nan=False)
            with Image.open(io.BytesIO(render(one.figure, "png"))) as image:
                assert image.width > 200


def test_captions_say_what_was_found():
    own = subject()
    assert "After 1 epochs the negative ELBO is 11.5 nats" in DRAWINGS["loss"](own).caption
    assert "5 dimensions" in DRAWINGS["kl-per-dimension"](own).caption
    strips = DRAWINGS["latent-strips"](own)
    assert {"name", "strongest", "r"} == set(strips.numbers["directions"][0])
    assert "r = " in strips.caption


def test_directions_of_pictures_are_named_by_light_and_colour():
    colour, grey, strokes = (
        DRAWINGS["latent-strips"](subject(**kind)).numbers["directions"][0]["r"]
        for kind in ({"shape": (3, 8, 10)}, {"levels": 1, "stride": 2}, {})
    )

    assert list(colour) == ["brightness", "contrast", "detail", "saturation", "warmth"]
    assert list(grey) == ["brightness", "contrast", "detail"]
    assert "stroke width" in strokes


def test_samples_say_that_jobs_add_a_grain():
    own = subject()
    assert "grain" not in DRAWINGS["samples"](own).caption
    own.model.config = own.model.config.model_copy(update={"grain": (2.0,)})
    assert "without the grain that jobs add" in DRAWINGS["samples"](own).caption


def test_model_without_curves_has_no_loss_figure():
    assert DRAWINGS["loss"](subject(history=False)) is None


def test_same_model_gives_the_same_numbers():
    one, two = (DRAWINGS["latent-strips"](subject()).numbers for _ in range(2))

    assert one == two


@pytest.fixture
def drawn(engine, storage, settings, owner, queue):
    """Lets a worker draw the figures of the trained model."""

    def draw():
        with writing(engine) as session:
            row, messages = figures.request(session, owner.id, "stripes", FiguresCreate())
        queue.tasks[RUN_FIGURES] = lambda figures_id: run_figures(
            engine, storage, settings, UUID(figures_id)
        )
        queue.send(messages)
        queue.run_all()
        with reading(engine) as session:
            return session.get_one(Figures, row.id)

    return draw


def test_worker_draws_them_into_one_archive(drawn, storage, model):
    row = drawn()

    assert (row.state, row.error) == ("succeeded", None)
    with zipfile.ZipFile(io.BytesIO(storage.get(row.archive_key))) as archive:
        names = archive.namelist()
        captions = [json.loads(archive.read(f"{name}.json"))["caption"] for name in row.names]
    assert sorted(names) == sorted(
        f"{name}.{kind}" for name in row.names for kind in ("png", "svg", "json")
    )
    assert {"latent-grid", "latent-strips", "same-z", "samples"} <= set(row.names)
    assert all(captions)
    assert row.bytes == len(storage.get(row.archive_key))


def test_weights_that_are_gone_fail_the_figures_with_the_reason(drawn, storage, model):
    storage.delete(model.checkpoint_key)

    row = drawn()
    assert row.state == "failed"
    assert "missing from the storage" in row.error
