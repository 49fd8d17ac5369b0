from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime

import pytest

from datagen.db.session import reading, writing
from datagen.db.tables import Dataset, Figures, Model, new_id
from datagen.errors import Conflict, InvalidFile, InvalidRequest, NotFound
from datagen.queue import RUN_FIGURES
from datagen.schemas import FiguresCreate
from datagen.service import claims, figures
from datagen.service.stale import requeue_stale


@pytest.fixture
def dataset(engine, owner, model):
    """Images that the model fits, and was trained on."""
    row = Dataset(
        id=new_id(), owner_id=owner.id, name="animals", version=1, digest="c" * 64,
        class_names=list(model.class_names), image_shape=list(model.image_shape),
        counts={"train": [1, 1, 1]}, report={"files": {"train": "f" * 64}},
        storage_prefix="datasets/c", created_at=datetime.now(UTC),
    )  # fmt: skip
    with writing(engine) as session:
        session.add(row)
        session.flush()
        session.get_one(Model, model.id).dataset_id = row.id
    return row


def asked(engine, owner, reference="pets", **wanted):
    with writing(engine) as session:
        return figures.request(session, owner.id, reference, FiguresCreate(**wanted))


def claimed(engine, settings, row):
    with writing(engine) as session:
        return figures.claim(session, settings, row.id)


def test_asked_for_twice_they_are_drawn_once(engine, owner, model):
    first, messages = asked(engine, owner)
    again, none = asked(engine, owner)

    assert (first.id, first.state, none) == (again.id, "queued", [])
    assert [(one.task, one.arguments) for one in messages] == [
        (RUN_FIGURES, {"figures_id": str(first.id)})
    ]


def test_owner_sees_the_images_that_were_trained_on(engine, settings, owner, model, dataset):
    row, _ = asked(engine, owner)

    assert row.dataset == dataset.id
    work = claimed(engine, settings, row)
    assert (work.storage_prefix, work.splits) == ("datasets/c", {"train": "f" * 64})


def test_others_see_a_public_model_without_its_owners_images(
    engine, settings, owner, stranger, model, dataset
):
    with writing(engine) as session:
        session.get_one(Model, model.id).visibility = "public"
    mine, _ = asked(engine, owner)
    theirs, _ = asked(engine, stranger)

    assert theirs.id != mine.id
    assert theirs.dataset is None
    assert claimed(engine, settings, theirs).splits == {}
    with pytest.raises(NotFound):
        asked(engine, stranger, dataset=str(dataset.id))


def test_images_of_another_kind_are_refused(engine, owner, model, dataset):
    with writing(engine) as session:
        session.get_one(Dataset, dataset.id).image_shape = [3, 4, 4]

    with pytest.raises(InvalidRequest, match="animals@1 has other classes or another image size"):
        asked(engine, owner, dataset="animals")


def test_images_that_were_removed_are_not_shown(engine, owner, model, dataset):
    with writing(engine) as session:
        session.get_one(Dataset, dataset.id).removed_at = datetime.now(UTC)

    assert asked(engine, owner)[0].dataset is None


def test_training_that_has_not_succeeded_has_nothing_to_draw(engine, owner, model):
    with writing(engine) as session:
        session.get_one(Model, model.id).state = "running"

    with pytest.raises(Conflict, match="pets@1 is running"):
        asked(engine, owner, "pets@1")


def archive(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name, data in files.items():
            made.writestr(name, data)
    return out.getvalue()


def test_what_was_drawn_is_read_by_name(engine, settings, storage, owner, model):
    row, _ = asked(engine, owner)
    work = claimed(engine, settings, row)
    storage.put("figures/x.zip", archive({"loss.png": b"png", "loss.json": b"{}"}))
    with writing(engine) as session:
        assert figures.close(
            session, work, key="figures/x.zip", digest="d" * 64, size=9, names=["loss"]
        )

    with reading(engine) as session:
        found = figures.known(session, owner.id, "pets", FiguresCreate())
        assert (found.state, found.names) == ("succeeded", ["loss"])
        read = {
            name: figures.read_file(session, storage, found, name)
            for name in ("loss", "loss.png", "loss.json")
        }
        assert read == {
            "loss": (b"png", "image/png"),
            "loss.png": (b"png", "image/png"),
            "loss.json": (b"{}", "application/json"),
        }
        with pytest.raises(NotFound, match="'samples' was left out"):
            figures.read_file(session, storage, found, "samples.png")


@pytest.mark.parametrize("name", ["", "loss.gif", "../loss.png", "mood", ".png", "loss.png.png"])
def test_names_that_no_figure_has_are_not_found(name):
    with pytest.raises(NotFound, match="There is no figure"):
        figures.check_name(name)


def test_those_that_failed_say_why_and_are_drawn_again_on_request(
    engine, settings, storage, owner, model
):
    row, _ = asked(engine, owner)
    with writing(engine) as session:
        work = figures.claim(session, settings, row.id)
        error = InvalidFile("The weights are gone.")
        claims.end_attempt(session, settings, Figures, row.id, work.attempt, error)
    with reading(engine) as session:
        found = figures.known(session, owner.id, "pets", FiguresCreate())
        with pytest.raises(Conflict, match="weights are gone"):
            figures.read_file(session, storage, found, "loss.png")

    again, messages = asked(engine, owner)
    assert (again.id, again.state, len(messages)) == (row.id, "queued", 1)
    assert claimed(engine, settings, row) is not None


def test_worker_that_was_overtaken_closes_nothing(engine, settings, owner, model):
    row, _ = asked(engine, owner)
    first = claimed(engine, settings, row)
    with writing(engine) as session:
        session.get_one(Figures, row.id).lease_until = datetime(2020, 1, 1, tzinfo=UTC)
    assert claimed(engine, settings, row).attempt == 2

    with writing(engine) as session:
        assert not figures.close(session, first, key="k", digest="d", size=1, names=[])


def test_messages_that_were_lost_are_sent_again(engine, settings, owner, model):
    row, _ = asked(engine, owner)
    with writing(engine) as session:
        session.get_one(Figures, row.id).sent_at = None

    with writing(engine) as session:
        sent = requeue_stale(session, settings)
    assert [one.arguments for one in sent if one.task == RUN_FIGURES] == [
        {"figures_id": str(row.id)}
    ]
