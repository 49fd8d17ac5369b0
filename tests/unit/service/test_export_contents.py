from __future__ import annotations

import io
import json
import re
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.datasets.names import Names
from datagen.datasets.reading import Opened, ReadReport
from datagen.db.session import reading, writing
from datagen.db.tables import Dataset, Model
from datagen.errors import Conflict, InvalidRequest, NotFound
from datagen.images import LabelledImages, decode_png
from datagen.schemas import SPLITS, ExportCreate, JobCreate
from datagen.service import datasets, export_writing, exports, jobs
from datagen.service.export_contents import NOWHERE, Contents, resolve
from datagen.settings import Settings

# Real images: the classes stand in another order than the model's, and there is one more.
CLASSES = ("cat", "bee", "ant", "dog")


def real_images(counts, first):
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = (first + np.arange(len(labels))).astype(np.uint8)
    images = np.broadcast_to(pixels[:, None, None, None], (len(labels), 1, 4, 4))
    return LabelledImages(np.ascontiguousarray(images), labels, CLASSES)


@pytest.fixture
def dataset(engine, storage, owner):
    """4 cats, 1 bee, 2 ants and no dog to train on; a cat and a dog to test with."""
    splits = {"train": real_images([4, 1, 2, 0], 100), "test": real_images([1, 0, 0, 1], 200)}
    texts = "".join(f"{number}.jpg" for number in range(7)).encode()
    names = Names(np.frombuffer(texts, np.uint8), np.arange(5, 40, 5))
    ingested = datasets.store(storage, Opened(splits, ReadReport(), {"train": names}))
    with writing(engine) as session:
        return datasets.register(session, owner.id, "zoo", ingested)


@pytest.fixture
def exported(engine, storage, tiny, owner):
    """Writes an export; gives its rows by split, the manifest and the export."""

    def export(**wanted):
        request = ExportCreate(**{"format": "parquet"} | wanted)
        with writing(engine) as session:
            made, _ = exports.create(session, Settings(), owner.id, request)
        export_writing.run(engine, storage, tiny, made.id)
        with reading(engine) as session:
            row = exports.archive(session, owner.id, made.id)
            shown = exports.read(session, owner.id, made.id)
        with zipfile.ZipFile(io.BytesIO(storage.get(row.archive_key))) as archive:
            found = {}
            for name in archive.namelist():
                if name.startswith("data/"):
                    table = pq.read_table(io.BytesIO(archive.read(name)))
                    found[name.split("/")[1].partition("-")[0]] = table
            return found, json.loads(archive.read("manifest.json")), shown

    return export


def values(table: pa.Table):
    """The value of each image's pixels, by which it is known."""
    return [int(decode_png(entry["bytes"])[0, 0, 0]) for entry in table["image"].to_pylist()]


def test_several_jobs_are_joined_and_their_files_have_different_names(exported, start, store):
    first, ids = start(ant=2)
    store(ids[0])
    second, ids = start(cat=3)
    store(ids[0])

    tables, manifest, export = exported(jobs=[second.id, first.id])

    table = tables["train"]
    assert table["label"].to_pylist() == [2, 2, 2, 0, 0]
    assert table["job"].to_pylist() == [str(second.id)] * 3 + [str(first.id)] * 2
    names = [entry["path"] for entry in table["image"].to_pylist()]
    assert names[0] == "job1-0000000000.png"
    assert names[3] == "job2-0000000000.png"
    assert [job["id"] for job in manifest["jobs"]] == [str(second.id), str(first.id)]
    assert export.jobs == [second.id, first.id]
    assert manifest["counts"] == {"train": {"ant": 2, "bee": 0, "cat": 3}}


def test_classes_can_be_numbered_by_their_names(exported, job, dataset):
    tables, manifest, _ = exported(job=job.id, dataset="zoo", class_order="name")

    assert manifest["class_names"] == ["ant", "bee", "cat", "dog"]
    assert manifest["selection"] == {"class_order": "name"}
    train, test = tables["train"], tables["test"]
    assert values(train) == [*range(100, 107), *range(10)]
    assert train["label"].to_pylist() == [2] * 4 + [1] + [0] * 2 + [0] * 3 + [2] * 7
    assert train["judged_label"].to_pylist()[7:] == train["label"].to_pylist()[7:]
    assert test["label"].to_pylist() == [2, 3]
    assert manifest["counts"]["test"] == {"ant": 0, "bee": 0, "cat": 1, "dog": 1}


def test_chosen_labels_of_a_dataset_stay_the_same_when_numbered_by_name(exported, dataset):
    tables, manifest, _ = exported(dataset="zoo", class_order="name", labels=["cat"])
    assert values(tables["train"]) == [100, 101, 102, 103]
    assert tables["train"]["label"].to_pylist() == [2] * 4
    assert manifest["counts"]["train"] == {"ant": 0, "bee": 0, "cat": 4, "dog": 0}


def test_export_of_class_folders_warns_of_classes_missing_in_a_split(exported, dataset):
    _, _, plain = exported(dataset="zoo")
    assert plain.warnings == []
    _, _, folders = exported(dataset="zoo", format="imagefolder")
    # No dog to train on, which is the last class and shifts no number.
    (warning,) = folders.warnings
    assert warning.startswith(
        "The split test has no images of 'bee' and of 1 more classes: a loader"
    )


def test_real_images_come_first_keep_their_split_and_their_names(exported, job, dataset):
    tables, manifest, export = exported(job=job.id, dataset="zoo")

    train, test = tables["train"], tables["test"]
    assert train["synthetic"].to_pylist() == [False] * 7 + [True] * 10
    assert values(train) == [*range(100, 107), *range(10)]
    # Ants are 0 to the model and 2 to the dataset, cats 2 and 0.
    assert train["label"].to_pylist() == [0] * 4 + [1] + [2] * 2 + [2] * 3 + [0] * 7
    assert train["source_file"].to_pylist()[:7] == [f"{number}.jpg" for number in range(7)]
    assert train["source_file"].to_pylist()[7] is None
    assert train["judged_label"].to_pylist()[7:] == train["label"].to_pylist()[7:]
    assert values(test) == [200, 201]
    assert test["synthetic"].to_pylist() == [False] * 2
    assert manifest["dataset"]["name"] == "zoo"
    assert manifest["synthetic"]["train"] == {"cat": 7, "bee": 0, "ant": 3, "dog": 0}
    assert export.dataset == "zoo@1"
    assert export.images_total == 19


@pytest.mark.parametrize(
    ("plan", "taken"),
    [
        ({"fill": 4}, {"cat": 0, "bee": 0, "ant": 2}),
        ({"add": 3}, {"cat": 3, "bee": 0, "ant": 3}),
        ({"balance": True}, {"cat": 0, "bee": 0, "ant": 2}),
    ],
)
def test_plan_counts_in_the_training_split(exported, job, dataset, plan, taken):
    tables, manifest, export = exported(job=job.id, dataset="zoo", plan=plan, labels=["cat", "ant"])

    assert manifest["synthetic"]["train"] == taken | {"dog": 0}
    assert manifest["counts"]["train"]["ant"] == 2 + taken["ant"]
    assert export.warnings == []
    # The first ones of each class.
    made = [index for index, synthetic in zip(
        tables["train"]["index"].to_pylist(), tables["train"]["synthetic"].to_pylist(), strict=True
    ) if synthetic]  # fmt: skip
    assert made == [*range(taken["ant"]), *range(3, 3 + taken["cat"])]


def test_plan_beyond_what_there_is_is_refused_with_the_numbers(exported, job, dataset):
    with pytest.raises(InvalidRequest, match=r"'bee' 4 and there are 0.*bee=4") as refused:
        exported(job=job.id, dataset="zoo", plan={"fill": 5})
    assert refused.value.field == "plan"

    _, manifest, export = exported(job=job.id, dataset="zoo", plan={"fill": 5}, on_shortfall="keep")
    assert manifest["synthetic"]["train"] == {"cat": 1, "bee": 0, "ant": 3, "dog": 0}
    assert "The plan was not reached" in export.warnings[0]


def test_dataset_alone_is_exported_too(exported, dataset):
    tables, manifest, export = exported(dataset="zoo", format="parquet")

    assert values(tables["train"]) == list(range(100, 107))
    assert (manifest["jobs"], export.job, export.jobs) == ([], None, [])


def test_filters_choose_images(exported, job):
    tables, _, _ = exported(job=job.id, labels=["cat"], min_score=0.5, indices=[0, 9])

    assert tables["train"]["index"].to_pylist() == [3, 4, 7, 8]
    assert min(tables["train"]["score"].to_pylist()) >= 0.5


def test_most_of_a_label_are_the_first(exported, job):
    tables, _, export = exported(job=job.id, max_per_label=2)

    assert tables["train"]["index"].to_pylist() == [0, 1, 3, 4]
    assert export.images_total == 4


def test_splits_are_stratified_exact_and_seeded(exported, start, store):
    job, ids = start(ant=10, cat=20)
    for batch_id in ids:
        store(batch_id)
    shares = {"train": 0.7, "validation": 0.2, "test": 0.1}

    tables, manifest, export = exported(job=job.id, splits=shares)
    again, _, _ = exported(job=job.id, splits=shares)
    other, _, _ = exported(job=job.id, splits=shares, split_seed=1)

    assert manifest["counts"] == {
        "train": {"ant": 7, "bee": 0, "cat": 14},
        "validation": {"ant": 2, "bee": 0, "cat": 4},
        "test": {"ant": 1, "bee": 0, "cat": 2},
    }
    every = [index for name in SPLITS for index in tables[name]["index"].to_pylist()]
    assert sorted(every) == list(range(30))
    assert again["test"].equals(tables["test"])
    assert other["test"]["index"] != tables["test"]["index"]
    assert "Synthetic images stand in validation and test" in export.warnings[0]
    assert "selection" in manifest
    assert manifest["selection"]["splits"] == shares


@pytest.mark.parametrize(
    ("wanted", "field", "told"),
    [
        ({"labels": ["unicorn"]}, "labels", "no label 'unicorn'"),
        ({"min_score": 0.95}, "job", "no image passes the filters"),
        ({"labels": ["bee"]}, "job", "no image passes the filters"),
        ({"indices": [10, 20]}, "job", "no image passes the filters"),
        ({"format": "stylegan", "splits": {"test": 1.0}, "labels": ["unicorn"]}, "labels", "no"),
        ({"format": "idx", "splits": {"train": 0.5, "validation": 0.5}}, "format", "no place"),
    ],
)
def test_what_gives_no_export_is_refused_and_leaves_no_row(
    engine, owner, exported, job, wanted, field, told
):
    with pytest.raises(InvalidRequest, match=told) as refused:
        exported(job=job.id, **wanted)
    assert refused.value.field == field
    with reading(engine) as session:
        assert exports.list_exports(session, owner.id).items == []


def test_sources_of_other_sizes_or_labels_are_refused(engine, storage, owner, exported, job, model):
    large = np.zeros((2, 1, 8, 8), np.uint8)
    strange = np.zeros((2, 1, 4, 4), np.uint8)
    labels = np.array([0, 0])
    for name, images, classes in (("large", large, CLASSES), ("strange", strange, ("ant", "x"))):
        ingested = datasets.store(
            storage, Opened({"train": LabelledImages(images, labels, classes)}, ReadReport())
        )
        with writing(engine) as session:
            datasets.register(session, owner.id, name, ingested)

    with pytest.raises(InvalidRequest, match="those of the dataset 'large' are 8 x 8"):
        exported(job=job.id, dataset="large")
    with pytest.raises(InvalidRequest, match="has the label 'bee', which the dataset 'strange'"):
        exported(job=job.id, dataset="strange")
    with pytest.raises(NotFound):
        exported(job=job.id, dataset="nowhere")


def test_dataset_that_is_being_exported_cannot_be_removed(engine, owner, dataset, job):
    with writing(engine) as session:
        exports.create(
            session, Settings(), owner.id, ExportCreate(job=job.id, dataset="zoo", format="parquet")
        )
    with writing(engine) as session, pytest.raises(Conflict, match="written into an export"):
        datasets.remove(session, owner.id, "zoo")


def test_dataset_that_was_exported_leaves_a_tombstone(engine, owner, exported, dataset, job):
    _, _, export = exported(job=job.id, dataset="zoo")
    with writing(engine) as session:
        datasets.remove(session, owner.id, "zoo")
    with reading(engine) as session:
        assert exports.read(session, owner.id, export.id).dataset == "zoo@1"


def test_licence_is_the_datasets_unless_another_is_named(
    engine, storage, owner, exported, job, model, dataset
):
    with writing(engine) as session:
        row = session.get_one(Model, model.id)
        row.dataset_id = dataset.id
    assert exported(job=job.id)[1]["license"] is None
    with writing(engine) as session:
        session.get_one(Dataset, dataset.id).license = "cc-by-4.0"
    assert exported(job=job.id)[1]["license"] == "cc-by-4.0"
    assert exported(job=job.id, dataset="zoo")[1]["license"] == "cc-by-4.0"
    assert exported(job=job.id, license="mit")[1]["license"] == "mit"


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    parts=st.lists(st.integers(0, 10), min_size=3, max_size=3).filter(any),
    seed=st.integers(0, 5),
)
def test_every_taken_image_has_one_place_and_counts_are_exact(counts, parts, seed):
    shares = {name: part / sum(parts) for name, part in zip(SPLITS, parts, strict=True)}
    contents = Contents(
        tuple("abcd"[: len(counts)]), (1, 2, 2), (), None, np.array(counts), shares, seed
    )
    # More come than are taken, in parts of any size.
    labels = np.repeat(np.arange(len(counts)), np.array(counts) + 3)
    placing = contents.placed()
    found = np.concatenate([placing.of(part) for part in np.array_split(labels, 5)])

    for number, name in enumerate(SPLITS):
        placed = np.bincount(labels[found == number], minlength=len(counts))
        assert placed.tolist() == contents.synthetic[name].tolist()
        exact = np.array(counts) * shares[name]
        assert np.all(np.abs(placed - exact) < 1)
    assert (found == NOWHERE).sum() == 3 * len(counts)


def test_counts_follow_from_the_rows_of_labels_alone(engine, owner, job):
    with reading(engine) as session:
        contents = resolve(session, owner.id, ExportCreate(job=job.id, format="npz"))
    assert contents.taken.tolist() == [3, 0, 7]
    assert list(contents.counts) == ["train"]


@pytest.mark.parametrize("seed", [None, 2**63 - 37])
@pytest.mark.parametrize("how", ["parquet", "imagefolder"])
def test_seed_of_a_merged_export_comes_whole_through_pandas(
    engine, storage, tiny, owner, model, dataset, store, batch_ids, seed, how
):
    request = JobCreate(model="pets", labels={"ant": 2}, seed=seed)
    with writing(engine) as session:
        job, messages = jobs.create(session, tiny, owner.id, request)
    store(batch_ids(messages)[0])
    with writing(engine) as session:
        wanted = ExportCreate(format=how, job=job.id, dataset="zoo")
        made, _ = exports.create(session, Settings(), owner.id, wanted)
    export_writing.run(engine, storage, tiny, made.id)
    with reading(engine) as session:
        archive = storage.get(exports.archive(session, owner.id, made.id).archive_key)
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        name = next(one for one in files.namelist() if re.search(r"train.*\.parquet$", one))
        frame = pd.read_parquet(io.BytesIO(files.read(name)))

    assert len(frame) > frame["seed"].count() == 2
    assert {int(found) for found in frame["seed"].dropna()} == {job.seed}
    # Whatever reads it as a float64 finds the same seed where datagen chose it.
    assert seed is not None or int(frame["seed"].astype("float64").max()) == job.seed
