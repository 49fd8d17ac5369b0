from __future__ import annotations

import hashlib
from datetime import timedelta
from uuid import UUID

import pytest
import torch
from sqlalchemy import update
from tiny import striped_images

from datagen.datasets.reading import Opened, ReadReport
from datagen.db.session import now, reading, writing
from datagen.db.tables import Model
from datagen.errors import Conflict, NotFound
from datagen.images import LabelledImages
from datagen.model.state import TrainingState
from datagen.queue import RUN_PREVIEW, RUN_TRAINING, MemoryQueue, Message
from datagen.schemas import JobCreate, ModelCreate
from datagen.service import datasets, jobs, models, samples, trainings
from datagen.service.stale import requeue_stale
from datagen.storage import FileStorage
from datagen.work import giving_way, sampler_measures
from datagen.work.generators import use_threads
from datagen.work.training import run_training

OPTIONS = {
    "epochs": 1,
    "refine_epochs": 0,
    "judge_epochs": 1,
    "batch_size": 16,
    "width": 8,
    "latent_dim": 3,
}
ONE_STEP = 1e-6


class InterruptedStorage(FileStorage):
    """A store on a machine where something happens just before a file is kept."""

    def __init__(self, root, before_put):
        super().__init__(root)
        self._before_put = before_put

    def put(self, key, data):
        self._before_put()
        super().put(key, data)


@pytest.fixture(autouse=True)
def _few_are_measured(monkeypatch):
    monkeypatch.setattr(sampler_measures, "MEASURED_PER_CLASS", 20)


@pytest.fixture(autouse=True)
def _same_threads_after():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def submit(engine, storage, settings, owner, queue):
    def create(from_model=None, **changes):
        splits = {
            name: LabelledImages(*striped_images(count, seed=count), ("top", "middle", "bottom"))
            for name, count in (("train", 40), ("test", 9))
        }
        request = ModelCreate(
            name="mine", dataset="stripes", options=OPTIONS, from_model=from_model
        )
        ingested = datasets.store(storage, Opened(splits, ReadReport()))
        with writing(engine) as session:
            datasets.register(session, owner.id, "stripes", ingested)
            model, messages = models.create(session, settings, owner.id, request)
            row = session.get_one(Model, model.id)
            row.options = row.options | changes
        queue.send(messages)
        return model

    return create


@pytest.fixture
def trainer(engine, storage, settings, queue):
    """Runs trainings on one machine, with its own store and settings."""

    def begin(store=None, **changes):
        own = settings.model_copy(update=changes)

        def run(model_id):
            run_training(engine, store or storage, queue, own, UUID(model_id))

        return run

    return begin


@pytest.fixture
def step(queue):
    """Let one waiting message be worked off."""

    def run(trainer):
        queue.tasks = {RUN_TRAINING: trainer}
        queue.run_next()

    return run


def row_of(engine, model):
    with reading(engine) as session:
        return session.get_one(Model, model.id)


def states(storage):
    return [file.key for file in storage.list("training/")]


def expire(engine, model):
    """Let the lease end, as time would."""
    with writing(engine) as session:
        past = now(session) - timedelta(seconds=1)
        session.execute(update(Model).where(Model.id == model.id).values(lease_until=past))


def make_due(engine, model):
    """Let the wait between attempts end, as time would."""
    with writing(engine) as session:
        past = now(session) - timedelta(seconds=1)
        session.execute(update(Model).where(Model.id == model.id).values(available_at=past))


def test_training_in_slices_gives_a_model_that_jobs_can_use(
    engine, storage, settings, owner, queue, submit, trainer, worker, work_off
):
    model = submit(refine_epochs=1)
    queue.tasks = {RUN_TRAINING: trainer(slice_seconds=ONE_STEP)}
    slices = queue.run_all()

    row = row_of(engine, model)
    assert slices > 3
    assert (row.state, row.error) == ("succeeded", None)
    assert hashlib.sha256(storage.get(row.checkpoint_key)).hexdigest() == row.digest
    assert hashlib.sha256(storage.get(row.judge_key)).hexdigest() == row.judge_digest
    assert hashlib.sha256(storage.get(row.index_key)).hexdigest() == row.index_digest
    assert row.metrics["held_out_images"] == 9
    assert states(storage) == []

    with writing(engine) as session:
        wanted = JobCreate(model="mine", all=2, gate={"min_score": 0.0})
        job, messages = jobs.create(session, settings, owner.id, wanted)
    queue.send(messages)
    work_off(worker())
    with reading(engine) as session:
        assert jobs.read(session, owner.id, job.id).state == "succeeded"


def test_samplers_of_a_trained_model_make_images_from_what_it_keeps(
    engine, storage, settings, owner, queue, submit, trainer, worker, work_off
):
    submit()
    queue.tasks = {RUN_TRAINING: trainer()}
    queue.run_next()
    made = {}
    for sampler in ("prior", "density", "neighbour", "interpolate"):
        request = JobCreate(model="mine", all=2, seed=4, sampler=sampler)
        with writing(engine) as session:
            job, messages = jobs.create(session, settings, owner.id, request)
        queue.send(messages)
        work_off(worker())
        with reading(engine) as session:
            ended = jobs.read(session, owner.id, job.id)
            made[sampler] = samples.list_samples(session, owner.id, job.id).items
        assert ended.state == "succeeded", ended.error

    assert [len(made[sampler][0].sources) for sampler in made] == [0, 0, 1, 2]
    # So few images feed one normal a class: the density is the prior.
    assert [one.digest for one in made.pop("density")] == [one.digest for one in made["prior"]]
    assert len({sample.digest for samples in made.values() for sample in samples}) == 18


def test_slices_give_the_same_weights_as_one_go(engine, queue, submit, trainer):
    whole, parts = submit(), submit()
    assert (whole.version, parts.version) == (1, 2)
    queue.tasks = {RUN_TRAINING: trainer()}
    queue.run_next()
    queue.tasks = {RUN_TRAINING: trainer(slice_seconds=ONE_STEP)}
    queue.run_all()

    assert row_of(engine, whole).state == row_of(engine, parts).state == "succeeded"
    assert row_of(engine, whole).digest == row_of(engine, parts).digest


def test_slice_keeps_only_the_latest_state(engine, storage, submit, trainer, step):
    model = submit()
    short = trainer(slice_seconds=ONE_STEP)
    for attempt in (1, 2):
        step(short)
        row = row_of(engine, model)
        assert (row.state, row.attempt, row.attempt_floor) == ("queued", attempt, attempt)
        assert states(storage) == [row.state_key]


def test_training_with_two_messages_runs_once(engine, queue, submit, trainer):
    model = submit()
    queue.send(list(queue.waiting))
    queue.tasks = {RUN_TRAINING: trainer()}

    assert queue.run_all() == 2
    assert (row_of(engine, model).state, row_of(engine, model).attempt) == ("succeeded", 1)


def test_worker_has_its_share_of_threads_again_after_a_training(settings, submit, trainer, step):
    use_threads(settings)
    before = torch.get_num_threads()
    submit()
    step(trainer(slice_seconds=ONE_STEP))

    assert torch.get_num_threads() == before


def test_cancelled_between_slices_ends_there(engine, owner, queue, submit, trainer, step):
    model = submit()
    short = trainer(slice_seconds=ONE_STEP)
    step(short)
    with writing(engine) as session:
        models.cancel(session, owner.id, model.id)
    step(short)

    assert row_of(engine, model).state == "cancelled"
    assert not queue.waiting


def test_cancelled_while_a_result_is_stored_stays_cancelled(
    engine, storage, owner, submit, trainer, step
):
    model = submit()

    def cancel():
        if row_of(engine, model).state != "cancelled":
            with writing(engine) as session:
                models.cancel(session, owner.id, model.id)

    step(trainer(InterruptedStorage(storage.root, cancel)))

    row = row_of(engine, model)
    assert (row.state, row.digest) == ("cancelled", None)


def test_cancelled_while_training_stops_at_the_next_look(
    engine, storage, owner, settings, submit, queue
):
    model = submit(judge_epochs=10_000)

    class CancellingStorage(FileStorage):
        def open(self, key):
            with writing(engine) as session:
                if session.get_one(Model, model.id).state == "running":
                    models.cancel(session, owner.id, model.id)
            return super().open(key)

    run_training(engine, CancellingStorage(storage.root), queue, settings, model.id)

    assert row_of(engine, model).state == "cancelled"
    assert states(storage) == []


def test_overtaken_worker_that_finishes_leaves_the_state_to_the_other(
    engine, storage, settings, submit, trainer, step
):
    model = submit()
    step(trainer(slice_seconds=ONE_STEP))
    kept = row_of(engine, model).state_key
    other = MemoryQueue()

    def overtake():
        if row_of(engine, model).attempt == 2:
            expire(engine, model)
            with writing(engine) as session:
                assert trainings.claim_training(session, settings, model.id).state_key == kept

    step(trainer(InterruptedStorage(storage.root, overtake)))

    row = row_of(engine, model)
    assert (row.state, row.attempt, row.digest) == ("running", 3, None)
    assert states(storage) == [kept]
    expire(engine, model)
    run_training(engine, storage, other, settings, model.id)
    assert row_of(engine, model).state == "succeeded"


def test_loss_that_is_no_number_fails_the_training_with_the_reason(
    engine, storage, submit, trainer, step, tmp_path
):
    model = submit()
    step(trainer(slice_seconds=ONE_STEP))
    key, path = row_of(engine, model).state_key, tmp_path / "state.safetensors"
    path.write_bytes(storage.get(key))
    state = TrainingState.load(path)
    state.tensors["judge.head.1.bias"].fill_(torch.nan)
    state.save(path)
    storage.delete(key)
    storage.put(key, path.read_bytes())
    step(trainer())

    row = row_of(engine, model)
    assert row.state == "failed"
    assert "The loss was nan" in row.error
    assert "smaller learning rate" in row.error


def test_images_that_are_gone_fail_the_training_with_the_reason(
    engine, storage, submit, trainer, step
):
    model = submit()
    for file in list(storage.list("datasets/")):
        storage.delete(file.key)
    step(trainer())

    row = row_of(engine, model)
    assert row.state == "failed"
    assert "missing from the storage; add the dataset again" in row.error


def test_damaged_state_fails_the_training_with_the_reason(engine, storage, submit, trainer, step):
    model = submit()
    step(trainer(slice_seconds=ONE_STEP))
    key = row_of(engine, model).state_key
    data = storage.get(key)
    storage.delete(key)
    storage.put(key, data[: len(data) // 2])
    step(trainer())

    row = row_of(engine, model)
    assert row.state == "failed"
    assert "damaged" in row.error


def test_missing_state_starts_the_training_from_the_beginning(
    engine, storage, submit, trainer, step
):
    model = submit()
    step(trainer(slice_seconds=ONE_STEP))
    storage.delete(row_of(engine, model).state_key)
    whole = submit()
    step(trainer())
    step(trainer())

    assert row_of(engine, model).state == "succeeded"
    assert row_of(engine, model).digest == row_of(engine, whole).digest


class Refusing:
    """A store that answers every question with the same error."""

    def __init__(self, storage, error):
        self._storage, self._error = storage, error

    def get(self, key):
        raise self._error

    open = get

    def __getattr__(self, name):
        return getattr(self._storage, name)


@pytest.mark.parametrize("error", [NotFound("It is gone."), Conflict("It has changed.")])
def test_error_that_no_waiting_helps_ends_the_training_at_once(
    engine, storage, submit, trainer, step, error
):
    model = submit()
    step(trainer(Refusing(storage, error)))

    row = row_of(engine, model)
    assert (row.state, row.attempt, row.error) == ("failed", 1, error.detail)
    assert row.ended_at is not None


def test_device_that_is_not_there_fails_the_training_with_the_reason(engine, submit, trainer, step):
    model = submit()
    step(trainer(device="cuda:63"))

    row = row_of(engine, model)
    assert row.state == "failed"
    assert "cuda:63" in row.error


def test_store_that_refuses_is_tried_again_and_then_fails_the_training(
    engine, storage, settings, queue, submit, trainer
):
    model = submit()
    (storage.root / "training").write_text("in the way")
    tries = 2
    own = settings.model_copy(update={"max_attempts": tries})
    queue.tasks = {RUN_TRAINING: trainer(max_attempts=tries, slice_seconds=ONE_STEP)}
    found = []
    for _ in range(tries):
        queue.run_all()
        found.append(row_of(engine, model).state)
        make_due(engine, model)
        with writing(engine) as session:
            queue.send(requeue_stale(session, own))

    assert found == ["queued", "failed"]
    assert "Gave up after 2 attempts" in row_of(engine, model).error


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_slice_of_a_training_ends_early_where_somebody_waits(
    engine, storage, queue, submit, trainer, step, monkeypatch
):
    for name in ("LEAST_SECONDS", "TIMES_THE_BEGINNING", "LOOK_SECONDS"):
        monkeypatch.setattr(giving_way, name, 0.0)
    # The training has few steps.
    monkeypatch.setattr(giving_way, "LOOKS", 1)
    model = submit()
    queue.send([Message(RUN_PREVIEW)])
    step(trainer())
    assert row_of(engine, model).state == "queued"
    assert len(states(storage)) == 1
    assert [message.task for message in queue.waiting] == [RUN_PREVIEW, RUN_TRAINING]


def test_training_starts_from_the_weights_of_another_model(engine, owner, submit, trainer, step):
    parent = submit(epochs=5)
    step(trainer())
    child = submit(from_model="mine")
    step(trainer())

    row = row_of(engine, child)
    assert (row.state, row.error) == ("succeeded", None)
    assert row.parent_digest == row_of(engine, parent).digest
    with reading(engine) as session:
        found = models.read(session, owner.id, "mine@2")
    assert (found.parent.name, found.parent.version) == ("mine", 1)


def test_model_that_a_training_starts_from_and_that_is_gone_fails_it_with_the_reason(
    engine, storage, submit, trainer, step
):
    parent = submit()
    step(trainer())
    child = submit(from_model="mine")
    storage.delete(row_of(engine, parent).checkpoint_key)
    step(trainer())

    row = row_of(engine, child)
    assert row.state == "failed"
    assert "missing from the storage" in row.error
