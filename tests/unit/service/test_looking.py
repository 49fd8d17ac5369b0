"""What people look at: the gallery, real images, the nearest ones, the overview."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from pipeline_world import images
from sqlalchemy import update

from datagen.datasets.reading import Opened, ReadReport
from datagen.db.session import reading, writing
from datagen.db.tables import Batch, Model
from datagen.errors import InvalidRequest, NotFound, UnknownLabel
from datagen.images import decode_png
from datagen.schemas import PipelineApply
from datagen.service import dataset_images, datasets, gallery, nearest, overview, pipelines


@pytest.fixture
def look(engine, storage, owner, job):
    """A page of the job's gallery: ten images whose pixels are their index, scores 0.1 to 0.9."""

    def read(**wanted):
        with reading(engine) as session:
            return gallery.tiles(session, storage, owner.id, job.id, **wanted)

    return read


def pixels(tile):
    return int(decode_png(base64.b64decode(tile.png))[0, 0, 0])


def every(look, **wanted):
    found, cursor = [], None
    while True:
        page = look(cursor=cursor, **wanted)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_gallery_shows_each_image_once_with_its_own_pixels(look, limit):
    found = every(look, limit=limit)
    assert [tile.index for tile in found] == list(range(10))
    assert [pixels(tile) for tile in found] == list(range(10))
    assert [tile.label for tile in found] == ["ant"] * 3 + ["cat"] * 7


@pytest.mark.parametrize("order", ["score", "-score"])
def test_gallery_by_score_goes_through_equal_scores_once(look, order):
    found = every(look, order=order, limit=3)
    scores = [tile.score for tile in found]
    assert sorted(tile.index for tile in found) == list(range(10))
    assert scores == sorted(scores, reverse=order == "-score")
    assert [pixels(tile) for tile in found] == [tile.index for tile in found]


def test_gallery_of_a_label_and_a_least_score(look):
    found = every(look, label="cat", min_score=0.5)
    assert [(tile.index, round(tile.score, 1)) for tile in found] == [
        (3, 0.7), (4, 0.9), (7, 0.5), (8, 0.7), (9, 0.9)
    ]  # fmt: skip


def test_gallery_refuses_labels_and_cursors_that_are_none(look):
    with pytest.raises(UnknownLabel):
        look(label="dog")
    for cursor in ("nonsense", "MQ", "WyJhIiwgImIiXQ"):
        with pytest.raises(InvalidRequest):
            look(cursor=cursor)


def test_image_whose_shard_is_gone_leaves_a_gap(look, engine):
    with writing(engine) as session:
        session.execute(update(Batch).where(Batch.start == 0).values(shard_key="jobs/gone"))
    found = look().items
    assert {tile.index for tile in found if tile.png is None} == {0, 1, 2, 3}
    assert found[4].png is not None


@pytest.fixture
def dataset(engine, storage, owner):
    with writing(engine) as session:
        opened = Opened({"train": images((300, 2, 3))}, ReadReport())
        return datasets.register(session, owner.id, "pets", datasets.store(storage, opened))


def test_real_images_come_some_at_a_time(engine, storage, owner, dataset):
    del dataset
    with reading(engine) as session:
        first = dataset_images.images(session, storage, owner.id, "pets", "train", None, 0)
        last = dataset_images.images(session, storage, owner.id, "pets", "train", None, 240)
        bees = dataset_images.images(session, storage, owner.id, "pets", "train", "bee", 0)
        for split, label in (("none", None), ("train", "dog")):
            with pytest.raises(NotFound):
                dataset_images.images(session, storage, owner.id, "pets", split, label, 0)
    assert (len(first.items), first.total, first.next_start) == (120, 305, 120)
    assert (len(last.items), last.next_start) == (65, None)
    assert [(one.row, one.label) for one in bees.items] == [(300, "bee"), (301, "bee")]


def test_nearest_real_image_of_a_copy_is_itself(engine, storage, owner, model, dataset, job):
    with reading(engine) as session:
        assert nearest.nearest(session, storage, owner.id, job.id, 0) == []
    with writing(engine) as session:
        session.get_one(Model, model.id).dataset_id = dataset.id
    with reading(engine) as session:
        found = nearest.nearest(session, storage, owner.id, job.id, 2)
    # Image 2 is grey 2 all over; the first real one runs from 0 to 15.
    real = images((300, 2, 3)).images[:300].astype(np.float64)
    distances = np.sqrt(((real - 2) ** 2).mean(axis=(1, 2, 3)))
    assert [one.row for one in found] == np.argsort(distances, kind="stable")[:6].tolist()
    assert [one.distance for one in found] == sorted(one.distance for one in found)


def test_overview_tells_of_jobs_pace_and_what_comes(engine, settings, owner, job):
    recipe = {
        "name": "hourly", "source": {"dataset": "d"}, "model": "pets", "plan": {"fill": 5},
        "schedule": {"every": "1h"},
    }  # fmt: skip
    with writing(engine) as session:
        pipelines.apply(session, settings, owner.id, PipelineApply.model_validate(recipe))
    with reading(engine) as session:
        seen = overview.overview(session, owner.id)
    assert [one.id for one in seen.jobs] == [job.id]
    assert (seen.images_last_hour, seen.models) == (10, 1)
    assert seen.batches == {"queued": 0, "running": 0}
    assert [one.name for one in seen.next_runs] == ["hourly"]
