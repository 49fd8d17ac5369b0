"""Trainings as workers see them, and the models that they start from."""

from __future__ import annotations

import pytest
from sqlalchemy import update
from training_rows import RESULT, add_dataset, claim, create, let_time_pass, row

from datagen.db.session import now, reading, writing
from datagen.db.tables import Model
from datagen.errors import Conflict, InvalidRequest, NotFound, StorageFailure, TrainingDiverged
from datagen.schemas import ModelChange
from datagen.service import claims, models, trainings
from datagen.service.model_files import StoredFile
from datagen.service.stale import requeue_stale


def tick(engine, settings):
    with writing(engine) as session:
        return requeue_stale(session, settings)


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


def test_training_that_took_longer_than_its_budget_gets_a_note(engine, settings, owner, training):
    work = claim(engine, settings, training)
    with writing(engine) as session:
        trainings.finish_slice(session, work, "training/1", seconds=400.0)
    work = claim(engine, settings, training)
    late = RESULT | {"options": {"time_budget": 600.0}, "metrics": {"notes": ["One."]}}
    with writing(engine) as session:
        assert trainings.close_training(session, work, **late, seconds=302.0)

    with reading(engine) as session:
        notes = models.read(session, owner.id, "bugs").metrics["notes"]
    # Of all slices together.
    assert notes == ["One.", "The training took 702 seconds, 17% more than its time budget of 10m."]


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


def test_model_keeps_seconds_of_all_slices_device_config_and_dataset(engine, settings, owner):
    add_dataset(engine, owner)
    model, _ = create(engine, settings, owner, name="mine")
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
