from __future__ import annotations

import json
import struct

import pytest
from sqlalchemy import select
from training_rows import RESULT, add_dataset, claim, create

from datagen import bundled
from datagen.db.session import now, reading, writing
from datagen.db.tables import Figures, Job, Model, Report, new_id
from datagen.errors import (
    Conflict,
    InvalidFile,
    InvalidRequest,
    NotFound,
)
from datagen.queue import RUN_TRAINING
from datagen.service import keys, models, sharing, trainings
from datagen.service.common import find_model, next_version


def test_training_is_queued_and_a_message_sent(engine, settings, owner, dataset):
    model, messages = create(engine, settings, owner, options={"epochs": 3})

    assert model.state == "queued"
    assert model.options == {"epochs": 3}
    assert [(m.task, m.arguments) for m in messages] == [
        (RUN_TRAINING, {"model_id": str(model.id)})
    ]


def test_same_name_again_is_the_next_version(engine, settings, owner, training):
    second, _ = create(engine, settings, owner)

    assert (training.version, second.version) == (1, 2)
    with reading(engine) as session:
        assert models.read(session, owner.id, "bugs").id == second.id
        assert models.read(session, owner.id, "bugs@1").id == training.id


def test_unknown_dataset_is_not_found(engine, settings, owner):
    with pytest.raises(NotFound, match="dataset list"):
        create(engine, settings, owner)


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"counts": {"test": [1, 1]}}, "train"), ({"image_shape": [1, 2048, 8]}, "1024")],
)
def test_dataset_that_nothing_can_learn_from_is_refused(engine, settings, owner, changes, word):
    add_dataset(engine, owner, **changes)

    with pytest.raises(InvalidRequest, match=word):
        create(engine, settings, owner)


def test_cancelled_training_is_nobodys(engine, settings, owner, training):
    work = claim(engine, settings, training)
    with writing(engine) as session:
        assert models.cancel(session, owner.id, training.id).state == "cancelled"

    with writing(engine) as session:
        assert not trainings.close_training(session, work, **RESULT)
    assert claim(engine, settings, training) is None
    with writing(engine) as session, pytest.raises(Conflict, match="cancelled"):
        models.cancel(session, owner.id, training.id)


def test_another_owners_training_is_not_found(engine, training):
    with writing(engine) as session:
        with pytest.raises(NotFound):
            models.cancel(session, new_id(), training.id)
        with pytest.raises(NotFound):
            models.read(session, new_id(), "bugs")


def test_models_are_listed_newest_first_page_by_page(engine, settings, owner, training):
    made = [training.id, *(create(engine, settings, owner)[0].id for _ in range(2))]

    with reading(engine) as session:
        first = models.list_models(session, owner.id, limit=2)
        rest = models.list_models(session, owner.id, limit=2, cursor=first.next_cursor)
    assert [model.id for model in (*first.items, *rest.items)] == made[::-1]
    assert rest.next_cursor is None


def checkpoint(path, kind, weights):
    """A file with the header of a checkpoint, and some bytes for its weights."""
    ours = {
        "kind": kind,
        "config": {},
        "class_names": ["0", "1"],
        "image_shape": [1, 28, 28],
        "training_digest": "e" * 64,
        "metrics": {"accuracy": 0.995},
        "datagen_version": "0.1.0",
    }
    header = json.dumps({"__metadata__": {"datagen": json.dumps(ours)}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + weights)


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    for name, kind in (("MODEL", "cvae"), ("JUDGE", "judge")):
        path = tmp_path / ("mnist.safetensors" if name == "MODEL" else "judge.safetensors")
        checkpoint(path, kind, b"first")
        monkeypatch.setattr(bundled, name, path)


def ensure(engine, storage):
    with writing(engine) as session:
        models.ensure_bundled(session, storage)


def test_shipped_model_is_public_and_registered_once(engine, storage, owner, shipped):
    for _ in range(3):
        ensure(engine, storage)

    with reading(engine) as session:
        (found,) = models.list_models(session, owner.id).items
        kept = session.get_one(Model, found.id)
    assert (found.name, found.version, found.state) == ("mnist", 1, "succeeded")
    assert (found.visibility, found.metrics) == ("public", {"accuracy": 0.995})
    assert storage.get(kept.checkpoint_key) == bundled.MODEL.read_bytes()
    assert storage.get(kept.judge_key) == bundled.JUDGE.read_bytes()


def test_other_shipped_weights_are_the_next_version(engine, storage, owner, shipped):
    ensure(engine, storage)
    checkpoint(bundled.MODEL, "cvae", b"second")
    ensure(engine, storage)

    with reading(engine) as session:
        assert models.read(session, owner.id, "mnist").version == 2
        assert models.read(session, owner.id, "mnist@1").digest


def test_lost_weights_of_the_shipped_model_are_stored_again(engine, storage, shipped):
    ensure(engine, storage)
    with reading(engine) as session:
        key = session.scalars(select(Model.checkpoint_key)).one()
    storage.delete(key)

    ensure(engine, storage)

    assert storage.exists(key)


def test_damaged_shipped_model_is_refused(engine, storage, shipped):
    bundled.JUDGE.write_bytes(b"not a checkpoint")

    with pytest.raises(InvalidFile, match="checkpoint"):
        ensure(engine, storage)


def test_owners_model_goes_before_the_public_one_of_its_name(
    engine, storage, settings, owner, dataset, shipped
):
    ensure(engine, storage)
    mine, _ = create(engine, settings, owner, name="mnist")

    with reading(engine) as session:
        assert models.read(session, owner.id, "mnist").id == mine.id
        assert models.read(session, new_id(), "mnist").id != mine.id


def test_public_models_training_cannot_be_cancelled_by_others(engine, storage, owner, shipped):
    ensure(engine, storage)
    with reading(engine) as session:
        found = models.read(session, owner.id, "mnist")

    with writing(engine) as session, pytest.raises(Conflict, match="succeeded"):
        models.cancel(session, owner.id, found.id)
    with writing(engine) as session:
        assert keys.ensure_owner(session, sharing.BUNDLED_OWNER) != owner.id


def removed(engine, owner, reference, **options):
    with writing(engine) as session:
        models.remove(session, owner.id, reference, **options)


def add_job(engine, owner, model, state):
    with writing(engine) as session:
        session.add(
            Job(
                id=new_id(),
                owner_id=owner.id,
                model_id=model.id,
                state=state,
                seed=1,
                temperature=1.0,
                images_requested=3,
                batch_size=2,
                follow_exports=[],
                created_at=now(session),
            )
        )


def test_removed_model_is_gone_with_its_figures(engine, owner, model):
    with writing(engine) as session:
        moment = now(session)
        session.add(
            Figures(
                id=new_id(),
                model_id=model.id,
                dataset_key="",
                state="succeeded",
                names=[],
                created_at=moment,
                available_at=moment,
            )
        )
    removed(engine, owner, "pets")

    with reading(engine) as session:
        assert session.scalars(select(Model)).all() == []
        assert session.scalars(select(Figures)).all() == []


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("state", ["queued", "running"])
def test_training_is_cancelled_before_its_model_is_removed(engine, owner, model, state, force):
    with writing(engine) as session:
        session.get_one(Model, model.id).state = state

    with pytest.raises(Conflict, match="in training; cancel"):
        removed(engine, owner, "pets", force=force)


@pytest.mark.parametrize("force", [False, True])
def test_job_that_still_uses_a_model_keeps_it(engine, owner, model, force):
    add_job(engine, owner, model, "running")

    with pytest.raises(Conflict, match=r"used by 1 job \(.*\); cancel"):
        removed(engine, owner, "pets", force=force)


def test_jobs_keep_a_model_unless_forced_which_leaves_a_tombstone(engine, settings, owner, model):
    for _ in range(5):
        add_job(engine, owner, model, "succeeded")

    with pytest.raises(Conflict, match=r"what 5 jobs \(.*, 2 more\) came of"):
        removed(engine, owner, "pets")
    removed(engine, owner, "pets", force=True)

    with reading(engine) as session:
        assert models.list_models(session, owner.id).items == []
        with pytest.raises(NotFound):
            models.read(session, owner.id, "pets")
        assert session.get_one(Model, model.id).digest == model.digest
        # Its number is never given again.
        assert next_version(session, Model, owner.id, "pets") == 2


def test_report_keeps_a_model_as_a_job_does_and_names_no_others(engine, owner, stranger, model):
    with writing(engine) as session:
        report = Report(
            owner_id=stranger.id, model_id=model.id, dataset_key="a" * 64, quick=True,
            state="running", progress={}, available_at=now(session), created_at=now(session),
        )  # fmt: skip
        session.add(report)

    with pytest.raises(Conflict, match=r"used by 1 report \(1 of other owners\); cancel"):
        removed(engine, owner, "pets", force=True)
    with writing(engine) as session:
        session.get_one(Report, report.id).state = "succeeded"
    with pytest.raises(Conflict, match="reports then stay"):
        removed(engine, owner, "pets")
    removed(engine, owner, "pets", force=True)

    with reading(engine) as session:
        assert session.get_one(Report, report.id).state == "succeeded"
        assert session.get_one(Model, model.id).removed_at is not None


def test_others_public_models_cannot_be_removed(engine, owner, model):
    with writing(engine) as session:
        session.get_one(Model, model.id).visibility = "public"

    with writing(engine) as session, pytest.raises(NotFound, match="of yours"):
        models.remove(session, new_id(), "pets", force=True)


def test_model_without_a_trained_version_says_so_to_whoever_would_use_it(
    engine, settings, owner, training
):
    with reading(engine) as session, pytest.raises(NotFound, match=r"no trained version.*queued"):
        find_model(session, owner.id, training.name, usable=True)


def test_prior_of_each_label_is_refused_for_a_family_without_labels(
    engine, settings, owner, dataset
):
    with pytest.raises(InvalidRequest, match="'learnt', a prior of each label"):
        create(engine, settings, owner, options={"family": "vae", "prior": "learnt"})
