from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from datagen import bundled
from datagen.db.session import now, reading, writing
from datagen.db.tables import Dataset, Figures, Job, Model, Report, new_id
from datagen.errors import (
    Conflict,
    InvalidFile,
    InvalidRequest,
    NotFound,
    StorageFailure,
    TrainingDiverged,
)
from datagen.queue import RUN_TRAINING
from datagen.schemas import ModelChange, ModelCreate
from datagen.service import claims, keys, models, sharing, trainings
from datagen.service.common import next_version
from datagen.service.model_files import ModelFiles, StoredFile
from datagen.service.stale import requeue_stale

RESULT = {
    "files": ModelFiles(
        StoredFile("models/a.safetensors", "a" * 64),
        StoredFile("models/b.safetensors", "b" * 64),
        StoredFile("models/c.safetensors", "c" * 64),
        StoredFile("models/d.safetensors", "d" * 64),
    ),
    "class_names": ["ant", "bee"],
    "image_shape": [1, 8, 8],
    "metrics": {"held_out_elbo": -90.5},
    "options": {"epochs": 8},
    "config": {"family": "cvae"},
}


def add_dataset(engine, owner, **changes):
    values = {
        "id": new_id(),
        "owner_id": owner.id,
        "name": "insects",
        "version": 1,
        "digest": "c" * 64,
        "class_names": ["ant", "bee"],
        "image_shape": [1, 8, 8],
        "counts": {"train": [5, 5], "test": [1, 1]},
        "storage_prefix": "datasets/c",
        "created_at": datetime.now(UTC),
    }
    with writing(engine) as session:
        session.add(Dataset(**(values | changes)))


@pytest.fixture
def dataset(engine, owner):
    add_dataset(engine, owner)


def create(engine, settings, owner, **request):
    with writing(engine) as session:
        wanted = ModelCreate.model_validate({"name": "bugs", "dataset": "insects", **request})
        return models.create(session, settings, owner.id, wanted)


@pytest.fixture
def training(engine, settings, owner, dataset):
    return create(engine, settings, owner)[0]


def claim(engine, settings, model):
    with writing(engine) as session:
        return trainings.claim_training(session, settings, model.id)


def row(engine, model):
    with reading(engine) as session:
        return session.get_one(Model, model.id)


def let_time_pass(engine):
    """End every lease and every wait, as time would, and tick."""
    with writing(engine) as session:
        past = now(session) - timedelta(seconds=1)
        session.execute(update(Model).where(Model.state == "running").values(lease_until=past))
        session.execute(update(Model).where(Model.state == "queued").values(available_at=past))


def tick(engine, settings):
    with writing(engine) as session:
        return requeue_stale(session, settings)


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


def failed(session, settings, work, error):
    return claims.end_attempt(session, settings, Model, work.model_id, work.attempt, error)


def test_worker_gets_what_it_needs(engine, settings, training):
    work = claim(engine, settings, training)

    assert work.attempt == 1
    assert work.storage_prefix == "datasets/c"
    assert set(work.splits) == {"train", "test"}
    assert claim(engine, settings, training) is None


def test_result_is_recorded_once(engine, settings, owner, training):
    work = claim(engine, settings, training)
    with writing(engine) as session:
        assert trainings.close_training(session, work, **RESULT)
        assert not trainings.close_training(session, work, **RESULT)

    with reading(engine) as session:
        done = models.read(session, owner.id, "bugs")
    assert done.state == "succeeded"
    assert done.metrics == RESULT["metrics"]
    assert done.ended_at is not None


def test_planned_slices_do_not_use_up_the_attempts(engine, settings, training):
    few = settings.model_copy(update={"max_attempts": 2})
    for number in range(1, 8):
        work = claim(engine, few, training)
        assert work.attempt == number
        with writing(engine) as session:
            messages = trainings.finish_slice(session, work, f"training/{number}")
        assert len(messages) == 1

    assert claim(engine, few, training).state_key == "training/7"


def test_training_that_kills_every_worker_ends_after_the_last_attempt(engine, settings, training):
    work = claim(engine, settings, training)
    with writing(engine) as session:
        trainings.finish_slice(session, work, "training/1")
    starts = 0
    for _ in range(settings.max_attempts + 3):
        starts += claim(engine, settings, training) is not None
        let_time_pass(engine)
        tick(engine, settings)
        let_time_pass(engine)

    assert starts == settings.max_attempts
    ended = row(engine, training)
    assert ended.state == "failed"
    assert f"{settings.max_attempts} attempts" in ended.error
    assert ended.state_key is None


def test_failure_that_may_pass_gives_the_training_back_until_the_last_attempt(
    engine, settings, training
):
    few = settings.model_copy(update={"max_attempts": 2})
    for expected in ("queued", "failed"):
        work = claim(engine, few, training)
        with writing(engine) as session:
            assert failed(session, few, work, StorageFailure("the disk is full"))
        assert row(engine, training).state == expected
        let_time_pass(engine)

    assert "the disk is full" in row(engine, training).error


def test_overtaken_worker_changes_nothing(engine, settings, training):
    stale = claim(engine, settings, training)
    let_time_pass(engine)
    winner = claim(engine, settings, training)

    with writing(engine) as session:
        assert not trainings.record_progress(session, stale, {"epoch": 9})
        assert trainings.finish_slice(session, stale, "training/stale") == []
        assert not trainings.close_training(session, stale, **RESULT)
        assert not failed(session, settings, stale, TrainingDiverged("diverged"))
        assert not failed(session, settings, stale, StorageFailure("disk full"))
        assert trainings.record_progress(session, winner, {"epoch": 1})

    current = row(engine, training)
    assert current.state == "running"
    assert current.progress == {"epoch": 1}
    assert current.state_key is None


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


def test_model_keeps_seconds_of_all_slices_device_config_and_dataset(engine, settings, owner):
    add_dataset(engine, owner)
    with writing(engine) as session:
        wanted = ModelCreate(name="mine", dataset="insects")
        model, _ = models.create(session, settings, owner.id, wanted)
    for seconds in (3.0, 4.5):
        with writing(engine) as session:
            work = trainings.claim_training(session, settings, model.id)
            trainings.finish_slice(session, work, "training/x", seconds)
    with writing(engine) as session:
        work = trainings.claim_training(session, settings, model.id)
        own = {"device": "cpu-x", "seconds": 1.0}
        assert trainings.close_training(session, work, **RESULT, **own)

    with reading(engine) as session:
        found = models.read(session, owner.id, "mine")
    assert (found.seconds, found.device) == (8.5, "cpu-x")
    assert (found.config, found.dataset_digest) == ({"family": "cvae"}, "c" * 64)


CONFIG = {"image_shape": [1, 8, 8], "class_count": 2, "width": 40}


@pytest.fixture
def parent(engine, settings, training):
    """A trained model."""
    work = claim(engine, settings, training)
    with writing(engine) as session:
        trainings.close_training(session, work, **(RESULT | {"config": CONFIG}))
    return training


def test_training_starts_from_a_trained_model_and_names_it(engine, settings, owner, parent):
    child, _ = create(engine, settings, owner, name="more", from_model="bugs")

    assert (child.parent.id, child.parent.name, child.parent.version) == (parent.id, "bugs", 1)
    assert child.parent_digest == "a" * 64
    assert claim(engine, settings, child).parent == StoredFile("models/a.safetensors", "a" * 64)


def test_name_of_a_model_to_start_from_means_the_latest_that_is_trained(
    engine, settings, owner, parent
):
    create(engine, settings, owner)
    child, _ = create(engine, settings, owner, name="more", from_model="bugs")

    assert child.parent.version == 1


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        ({"from_model": "bugs@2"}, Conflict, "bugs@2 is queued; a training starts from one that"),
        ({"from_model": "none"}, NotFound, "There is no model 'none'"),
        ({"from_model": "bugs@1", "options": {"width": 64}}, InvalidRequest, "'width' is 64"),
        ({"from_model": "bugs@1", "dataset": "small"}, InvalidRequest, "shape 1 x 4 x 4"),
    ],
)
def test_model_that_no_training_can_start_from_is_refused(
    engine, settings, owner, parent, request_, error, words
):
    create(engine, settings, owner)
    add_dataset(engine, owner, name="small", digest="f" * 64, image_shape=[1, 4, 4])
    with pytest.raises(error, match=words):
        create(engine, settings, owner, **request_)


def test_model_that_a_training_starts_from_stays_until_that_has_ended(
    engine, settings, owner, parent
):
    child, _ = create(engine, settings, owner, name="more", from_model="bugs")
    with writing(engine) as session, pytest.raises(Conflict, match="training of more@1 starts"):
        models.remove(session, owner.id, "bugs", force=True)
    with writing(engine) as session:
        models.cancel(session, owner.id, child.id)
        models.remove(session, owner.id, "bugs")

    with reading(engine) as session:
        left = models.read(session, owner.id, "more")
    assert (left.parent, left.parent_digest) == (None, "a" * 64)


def test_training_whose_parent_is_gone_fails_with_the_reason(engine, settings, owner, parent):
    child, _ = create(engine, settings, owner, name="more", from_model="bugs")
    with writing(engine) as session:
        session.execute(update(Model).where(Model.id == parent.id).values(removed_at=now(session)))

    assert claim(engine, settings, child) is None
    assert "was removed; train from another model" in row(engine, child).error


@pytest.fixture
def stranger_with_dataset(engine, stranger):
    add_dataset(engine, stranger, name="theirs", digest="9" * 64)
    return stranger


def shared(engine, owner, visibility="public"):
    with writing(engine) as session:
        return models.change(session, owner.id, "bugs@1", ModelChange(visibility=visibility))


def test_stranger_sees_nothing_of_what_a_public_model_was_trained_from(
    engine, settings, owner, stranger, parent
):
    shared(engine, owner)
    child, _ = create(engine, settings, owner, name="more", from_model="bugs")
    work = claim(engine, settings, child)
    with writing(engine) as session:
        trainings.close_training(session, work, **(RESULT | {"config": CONFIG}))
        models.change(session, owner.id, "more", ModelChange(visibility="public"))

    with reading(engine) as session:
        own, other = (models.read(session, who.id, "more") for who in (owner, stranger))
    assert (own.parent.id, own.parent_digest) == (parent.id, "a" * 64)
    assert (other.parent, other.parent_digest) == (None, None)


def test_training_of_a_stranger_does_not_hinder_the_removal_and_fails_with_the_reason(
    engine, settings, owner, stranger_with_dataset, parent
):
    shared(engine, owner)
    child, _ = create(engine, settings, stranger_with_dataset, dataset="theirs", from_model="bugs")
    with writing(engine) as session:
        models.remove(session, owner.id, "bugs")

    assert claim(engine, settings, child) is None
    assert "was removed; train from another model" in row(engine, child).error


def test_training_of_a_stranger_ends_where_the_model_is_private_again(
    engine, settings, owner, stranger_with_dataset, parent
):
    shared(engine, owner)
    child, _ = create(engine, settings, stranger_with_dataset, dataset="theirs", from_model="bugs")
    shared(engine, owner, "private")

    assert claim(engine, settings, child) is None
    assert "is private again" in row(engine, child).error


def test_shape_of_a_model_to_start_from_is_known_without_its_configuration(
    engine, settings, owner, parent
):
    with writing(engine) as session:
        session.execute(update(Model).where(Model.id == parent.id).values(config={}))
    add_dataset(engine, owner, name="small", digest="f" * 64, image_shape=[1, 4, 4])

    with pytest.raises(InvalidRequest, match="shape 1 x 4 x 4"):
        create(engine, settings, owner, dataset="small", from_model="bugs@1")
    assert create(engine, settings, owner, from_model="bugs@1", options={"width": 64})[0].parent
