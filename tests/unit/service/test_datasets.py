from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from layouts import tar_of
from sqlalchemy import func, select

from datagen.datasets.reading import Opened, ReadOptions, ReadReport
from datagen.db.session import reading, writing
from datagen.db.tables import Dataset, Model, new_id
from datagen.errors import Conflict, InvalidFile, InvalidRequest, NotFound, StorageFailure
from datagen.images import LabelledImages, encode_png
from datagen.service import datasets
from datagen.service.reader import FileReader
from datagen.service.sweep import sweep
from datagen.settings import Settings


def images_of(count=6, classes=("ant", "bee"), size=4, seed=0):
    draw = np.random.default_rng(seed)
    return LabelledImages(
        images=draw.integers(0, 256, (count, 1, size, size), dtype=np.uint8),
        labels=np.arange(count, dtype=np.int64) % len(classes),
        class_names=classes,
    )


@pytest.fixture
def splits():
    return {"train": images_of(), "test": images_of(2, seed=1)}


def register(engine, storage, owner_id, splits, name="insects"):
    datasets.check_dataset_name(name)
    ingested = datasets.store(storage, Opened(splits, ReadReport()))
    with writing(engine) as session:
        return datasets.register(session, owner_id, name, ingested)


def prefix_of(engine, dataset):
    with reading(engine) as session:
        return session.get_one(Dataset, dataset.id).storage_prefix


def test_registered_images_come_back_the_same(engine, storage, owner, splits):
    dataset = register(engine, storage, owner.id, splits)

    found = datasets.load_split(storage, prefix_of(engine, dataset), "train")
    assert np.array_equal(found.images, splits["train"].images)
    assert np.array_equal(found.labels, splits["train"].labels)
    assert found.class_names == ("ant", "bee")


def test_dataset_tells_classes_shape_and_counts(engine, storage, owner, splits):
    dataset = register(engine, storage, owner.id, splits)

    assert (dataset.name, dataset.version) == ("insects", 1)
    assert dataset.class_names == ["ant", "bee"]
    assert dataset.image_shape == [1, 4, 4]
    assert dataset.counts == {"train": [3, 3], "test": [1, 1]}


def test_same_images_again_are_the_same_dataset(engine, storage, owner, splits):
    first = register(engine, storage, owner.id, splits)

    assert register(engine, storage, owner.id, splits) == first
    with reading(engine) as session:
        assert session.scalar(select(func.count()).select_from(Dataset)) == 1


def test_other_images_are_the_next_version(engine, storage, owner, splits):
    first = register(engine, storage, owner.id, splits)
    second = register(engine, storage, owner.id, {"train": images_of(seed=2)})

    assert (first.version, second.version) == (1, 2)
    with reading(engine) as session:
        assert datasets.read(session, owner.id, "insects").id == second.id
        assert datasets.read(session, owner.id, "insects@1").id == first.id
        assert datasets.read(session, owner.id, str(first.id)).id == first.id


def test_same_images_under_two_names_are_stored_once(engine, storage, owner, splits):
    register(engine, storage, owner.id, splits)
    stored = {found.key for found in storage.list("datasets/")}
    other = register(engine, storage, owner.id, splits, "bugs")

    assert other.version == 1
    assert {found.key for found in storage.list("datasets/")} == stored
    assert len(stored) == 2


@pytest.mark.parametrize("name", ["", "Insects", "a/b", "insects@2", "x" * 65, "insects\n"])
def test_name_that_means_something_else_is_refused(engine, storage, owner, splits, name):
    with pytest.raises(InvalidRequest, match="name"):
        register(engine, storage, owner.id, splits, name)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda splits: dict(list(splits.items())[:0]),
        lambda splits: splits | {"test": images_of(2, classes=("ant", "cat"))},
        lambda splits: splits | {"test": images_of(2, size=5)},
        lambda splits: splits | {"test": images_of(0)},
    ],
)
def test_splits_that_do_not_fit_together_are_refused(engine, storage, owner, splits, spoil):
    with pytest.raises(InvalidRequest):
        register(engine, storage, owner.id, spoil(splits))
    assert list(storage.list("datasets/")) == []


def test_full_disk_leaves_no_row(engine, storage, owner, splits):
    class FullDisk:
        exists = storage.exists

        def put(self, _key, _data):
            raise StorageFailure("The storage cannot be written: the disk is full.")

    with pytest.raises(StorageFailure):
        register(engine, FullDisk(), owner.id, splits)
    with reading(engine) as session:
        assert datasets.list_datasets(session, owner.id).items == []


def test_another_owners_dataset_is_not_found(engine, storage, owner, splits):
    dataset = register(engine, storage, owner.id, splits)

    with reading(engine) as session:
        for reference in ("insects", str(dataset.id)):
            with pytest.raises(NotFound):
                datasets.read(session, new_id(), reference)
        assert datasets.list_datasets(session, new_id()).items == []


def test_datasets_are_listed_newest_first_page_by_page(engine, storage, owner):
    made = [
        register(engine, storage, owner.id, {"train": images_of(seed=seed)}).id for seed in range(3)
    ]

    with reading(engine) as session:
        first = datasets.list_datasets(session, owner.id, limit=2)
        rest = datasets.list_datasets(session, owner.id, limit=2, cursor=first.next_cursor)
    assert [found.id for found in (*first.items, *rest.items)] == made[::-1]


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda storage, key: storage.delete(key), "missing"),
        (lambda storage, key: storage.put(key, storage.get(key)[:-9]), "damaged"),
    ],
)
def test_spoilt_images_are_found(engine, storage, owner, splits, spoil, word):
    prefix = prefix_of(engine, register(engine, storage, owner.id, splits))
    spoil(storage, f"{prefix}/train.safetensors")

    with pytest.raises(InvalidFile, match=word):
        datasets.load_split(storage, prefix, "train")


def class_folders(images):
    files = encode_png(images.images)
    return {
        f"{images.class_names[label]}/{number}.png": png
        for number, (label, png) in enumerate(zip(images.labels, files, strict=True))
    }


def test_uploaded_class_folders_become_a_dataset(engine, storage, owner, tmp_path):
    images = images_of(30)
    (tmp_path / "upload.tar").write_bytes(tar_of(class_folders(images)))

    ingested = datasets.ingest(
        storage, FileReader(Settings()), tmp_path / "upload.tar", ReadOptions()
    )
    with writing(engine) as session:
        dataset = datasets.register(session, owner.id, "insects", ingested)

    assert dataset.counts == {"train": [12, 12], "validation": [2, 2], "test": [1, 1]}
    assert dataset.report["source"] == "imagefolder"
    found = [
        datasets.load_split(storage, ingested.prefix, split, dataset.report["files"][split])
        for split in dataset.counts
    ]
    pixels = np.concatenate([split.images for split in found])
    assert sorted(map(bytes, pixels)) == sorted(map(bytes, images.images))


def test_images_that_were_changed_in_the_store_are_found(engine, storage, owner, splits):
    dataset = register(engine, storage, owner.id, splits)
    prefix = prefix_of(engine, dataset)
    key = f"{prefix}/train.safetensors"
    whole = bytearray(storage.get(key))
    whole[-1] ^= 1
    storage.put(key, bytes(whole))

    with pytest.raises(InvalidFile, match="not those that were registered"):
        datasets.load_split(storage, prefix, "train", dataset.report["files"]["train"])


def trained_on(engine, owner, dataset, state):
    moment = datetime.now(UTC)
    with writing(engine) as session:
        model = Model(
            id=new_id(), owner_id=owner.id, name="mine", version=1, state=state,
            visibility="private", dataset_id=dataset.id, options={}, class_names=["ant", "bee"],
            image_shape=[1, 4, 4], metrics={}, progress={}, created_at=moment, available_at=moment,
        )  # fmt: skip
        session.add(model)


def removed(engine, owner, reference, **options):
    with writing(engine) as session:
        datasets.remove(session, owner.id, reference, **options)


def swept(engine, storage, settings):
    sweep(engine, storage, settings.model_copy(update={"sweep_seconds": 1e-9}))
    return {found.key for found in storage.list("datasets/")}


def test_removed_dataset_is_gone_and_its_images_follow(engine, storage, settings, owner, splits):
    register(engine, storage, owner.id, splits)
    removed(engine, owner, "insects")

    with reading(engine) as session:
        assert datasets.list_datasets(session, owner.id).items == []
        with pytest.raises(NotFound):
            datasets.read(session, owner.id, "insects")
    assert swept(engine, storage, settings) == set()


def test_images_that_another_name_has_stay(engine, storage, settings, owner, splits):
    register(engine, storage, owner.id, splits)
    register(engine, storage, owner.id, splits, "bugs")
    removed(engine, owner, "insects")

    assert len(swept(engine, storage, settings)) == 2


def test_name_with_several_versions_must_say_which(engine, storage, owner, splits):
    register(engine, storage, owner.id, splits)
    register(engine, storage, owner.id, {"train": images_of(seed=2)})

    with pytest.raises(Conflict, match="insects@1, insects@2"):
        removed(engine, owner, "insects")
    removed(engine, owner, "insects@2")
    with reading(engine) as session:
        assert datasets.read(session, owner.id, "insects").version == 1


@pytest.mark.parametrize("force", [False, True])
def test_training_that_reads_it_keeps_a_dataset(engine, storage, owner, splits, force):
    trained_on(engine, owner, register(engine, storage, owner.id, splits), "running")

    with pytest.raises(Conflict, match=r"being trained on by mine@1; cancel"):
        removed(engine, owner, "insects", force=force)


def test_models_keep_a_dataset_unless_forced_which_leaves_a_tombstone(
    engine, storage, settings, owner, splits
):
    first = register(engine, storage, owner.id, splits)
    trained_on(engine, owner, first, "succeeded")

    with pytest.raises(Conflict, match=r"trained on by mine@1"):
        removed(engine, owner, "insects")
    removed(engine, owner, "insects", force=True)

    assert swept(engine, storage, settings) == set()
    with reading(engine) as session:
        assert datasets.list_datasets(session, owner.id).items == []
        assert session.get_one(Dataset, first.id).digest == first.digest
    # The same images again bring the same version back, other ones are the next.
    assert register(engine, storage, owner.id, splits).id == first.id
    assert len(swept(engine, storage, settings)) == 2
    assert register(engine, storage, owner.id, {"train": images_of(seed=2)}).version == 2


def test_another_owners_dataset_cannot_be_removed(engine, storage, owner, splits):
    register(engine, storage, owner.id, splits)

    with writing(engine) as session, pytest.raises(NotFound):
        datasets.remove(session, new_id(), "insects")


def test_upload_that_is_no_dataset_is_refused_and_stores_nothing(storage, tmp_path):
    (tmp_path / "upload.tar").write_bytes(b"these bytes are no tar" * 100)

    with pytest.raises(InvalidFile):
        datasets.ingest(storage, FileReader(Settings()), tmp_path / "upload.tar", ReadOptions())
    assert list(storage.list("")) == []


def test_order_of_images_does_not_make_another_dataset(engine, storage, owner, splits):
    first = register(engine, storage, owner.id, splits)
    train = splits["train"]
    turned = replace(train, images=train.images[::-1].copy(), labels=train.labels[::-1].copy())

    again = splits | {"train": turned}
    assert register(engine, storage, owner.id, again).id == first.id
    other = register(engine, storage, owner.id, again, "bugs")
    for dataset in (first, other):
        images = datasets.load_split(
            storage, prefix_of(engine, dataset), "train", dataset.report["files"]["train"]
        )
        assert len(images) == len(train)
