from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from datetime import UTC, datetime

import numpy as np
import pytest
from sqlalchemy import func, select
from tiny import SHAPE, striped_images, tiny_config, tiny_header, tiny_judge, tiny_model

from datagen.db.session import reading, writing
from datagen.db.tables import Model, new_id
from datagen.errors import Conflict, InvalidFile, NotFound
from datagen.model.checkpoint import save_checkpoint
from datagen.model.config import JudgeConfig
from datagen.model.examples import Examples, save_examples
from datagen.quality.training_index import index_of, save_index
from datagen.service import keys, transfer
from datagen.service.packages import MAX_DOCUMENT_BYTES, read_package

DIMS = 5


@pytest.fixture
def networks():
    """What of the generator's configuration is not as usual."""
    return {}


@pytest.fixture
def files(tmp_path, networks):
    """A generator, a judge, examples and an index, as a training leaves them."""
    folder = tmp_path / "weights"
    folder.mkdir()
    model, judge = tiny_model(**networks), tiny_judge()
    header = tiny_header("cvae", model.config, options={"epochs": 3}, parent_digest="7" * 64)
    save_checkpoint(folder / transfer.GENERATOR, model, header)
    save_checkpoint(folder / transfer.JUDGE, judge, tiny_header("judge", judge.config))
    examples = Examples(
        mean=np.zeros((3, DIMS), np.float16),
        spread=np.ones((3, DIMS), np.float16),
        labels=np.arange(3),
        rows=np.arange(3),
    )
    save_examples(folder / transfer.EXAMPLES, examples)
    images, labels = striped_images(12)
    save_index(folder / transfer.INDEX, index_of(images.__getitem__, labels, 3))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def trained(engine, storage, owner, files, networks):
    """The model's row, and its files in the store."""
    names = {
        transfer.GENERATOR: ("digest", "checkpoint_key"),
        transfer.JUDGE: ("judge_digest", "judge_key"),
        transfer.EXAMPLES: ("examples_digest", "examples_key"),
        transfer.INDEX: ("index_digest", "index_key"),
    }
    keys = {}
    for name, data in files.items():
        digest = hashlib.sha256(data).hexdigest()
        keys |= dict(zip(names[name], (digest, f"models/{digest}.safetensors"), strict=True))
        storage.put(f"models/{digest}.safetensors", data)
    moment = datetime(2026, 3, 4, tzinfo=UTC)
    row = Model(
        id=new_id(), owner_id=owner.id, name="mine", version=1, state="succeeded",
        visibility="private", options={"epochs": 3},
        config=tiny_config(**networks).model_dump(mode="json"),
        class_names=[f"class {n}" for n in range(3)], image_shape=list(SHAPE),
        metrics={"negative_elbo": 97.5}, progress={}, seconds=12.5, device="cpu-x",
        dataset_digest="d" * 64, created_at=moment, available_at=moment, **keys,
    )  # fmt: skip
    with writing(engine) as session:
        session.add(row)
    return row


def exported(engine, storage, owner_id, reference="mine"):
    out = io.BytesIO()
    with reading(engine) as session:
        transfer.write_package(session, storage, owner_id, reference, out)
    return out.getvalue()


def imported(engine, storage, owner_id, data, tmp_path, name="copy"):
    path, folder = tmp_path / f"{new_id()}.zip", tmp_path / str(new_id())
    path.write_bytes(data)
    folder.mkdir()
    package = read_package(path, folder)
    keys = transfer.store_package(storage, package)
    with writing(engine) as session:
        return transfer.register(session, owner_id, name, package, keys)


@pytest.mark.parametrize(
    "networks", [{}, {"levels": 1, "stride": 2, "flow_width": 8, "likelihood": "laplace"}]
)
def test_model_comes_back_as_it_went(engine, storage, owner, trained, tmp_path):
    data = exported(engine, storage, owner.id)
    found = imported(engine, storage, owner.id, data, tmp_path)

    assert (found.name, found.version, found.state) == ("copy", 1, "succeeded")
    assert (found.digest, found.judge_digest) == (trained.digest, trained.judge_digest)
    assert found.dataset is None
    assert found.dataset_digest == "d" * 64
    assert found.parent_digest == "7" * 64
    assert (found.seconds, found.device) == (12.5, "cpu-x")
    assert found.config == trained.config
    assert found.metrics["negative_elbo"] == 97.5
    again = Package(exported(engine, storage, owner.id, "copy")).files
    first = Package(data).files
    assert set(again) == set(first)
    assert all(again[name] == first[name] for name in first if name != transfer.DOCUMENT)


def test_document_that_is_too_large_is_refused_before_it_is_read(tmp_path, files):
    document = tmp_path / "model.zip"
    with zipfile.ZipFile(document, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(transfer.DOCUMENT, "[" * (MAX_DOCUMENT_BYTES + 1))
        for name, data in files.items():
            archive.writestr(name, data)
    with pytest.raises(InvalidFile, match="at most 1,048,576"):
        read_package(document, tmp_path)


def test_same_model_gives_the_same_bytes_and_one_version(engine, storage, owner, trained, tmp_path):
    data = exported(engine, storage, owner.id)

    assert exported(engine, storage, owner.id) == data
    first = imported(engine, storage, owner.id, data, tmp_path)
    assert imported(engine, storage, owner.id, data, tmp_path).id == first.id
    with reading(engine) as session:
        assert session.scalar(select(func.count()).select_from(Model)) == 2


def test_others_get_a_public_model_without_its_examples(engine, storage, owner, trained, tmp_path):
    with writing(engine) as session:
        session.get_one(Model, trained.id).visibility = "public"

    data = exported(engine, storage, new_id())
    assert set(zipfile.ZipFile(io.BytesIO(data)).namelist()) == {
        transfer.DOCUMENT,
        transfer.GENERATOR,
        transfer.JUDGE,
    }
    public = imported(engine, storage, owner.id, data, tmp_path)
    assert public.state == "succeeded"
    # What its owner exports has more in it, and is another version.
    whole = exported(engine, storage, trained.owner_id)
    assert imported(engine, storage, owner.id, whole, tmp_path).version == public.version + 1


def test_model_of_another_owner_or_in_training_is_not_exported(engine, storage, owner, trained):
    with pytest.raises(NotFound):
        exported(engine, storage, new_id())
    with writing(engine) as session:
        session.get_one(Model, trained.id).state = "running"
    with pytest.raises(Conflict, match="mine@1 is running"):
        exported(engine, storage, owner.id, "mine@1")


def test_weights_that_were_changed_in_the_store_are_not_exported(engine, storage, owner, trained):
    storage.put(trained.judge_key, b"other")

    with pytest.raises(InvalidFile, match="they were changed"):
        exported(engine, storage, owner.id)


class Package:
    """A package that can be taken apart and put together again, its digests put right or not."""

    def __init__(self, data):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            self.files = {name: archive.read(name) for name in archive.namelist()}

    @property
    def document(self):
        return json.loads(self.files[transfer.DOCUMENT])

    def tell(self, **changes):
        self.files[transfer.DOCUMENT] = json.dumps(self.document | changes).encode()

    def put(self, name, data, *, honest=True):
        self.files[name] = data
        if honest:
            own = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            self.tell(files=self.document["files"] | {name: own})

    def data(self, method=zipfile.ZIP_STORED):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for name, content in self.files.items():
                archive.writestr(name, content)
        return out.getvalue()


def checkpoint(tmp_path, module, header):
    path = tmp_path / "one.safetensors"
    save_checkpoint(path, module, header)
    return path.read_bytes()


def with_nan(tmp_path):
    model = tiny_model()
    model.prior.mean[0, 0, 0] = float("nan")
    return checkpoint(tmp_path, model, tiny_header("cvae", model.config))


def of_another_width(tmp_path):
    return checkpoint(tmp_path, tiny_model(width=16), tiny_header("cvae", tiny_config()))


SPOILT = {
    "changed weights": (
        lambda p, _: p.put(
            transfer.GENERATOR, p.files[transfer.GENERATOR][:-4] + b"\0\0\0\x40", honest=False
        ),
        "the file was changed",
    ),
    "another length": (
        lambda p, _: p.put(transfer.GENERATOR, p.files[transfer.GENERATOR][:-8], honest=False),
        "not as model.json says",
    ),
    "truncated weights": (
        lambda p, _: p.put(transfer.GENERATOR, p.files[transfer.GENERATOR][:-8]),
        "damaged",
    ),
    "a pickle": (
        lambda p, _: p.put(transfer.GENERATOR, pickle.dumps({"weights": [1.0]})),
        "does not begin with a safetensors header",
    ),
    "an enormous header": (
        lambda p, _: p.put(transfer.GENERATOR, (1 << 40).to_bytes(8, "little") + b"{}"),
        "does not begin with a safetensors header",
    ),
    "another architecture": (
        lambda p, tmp: p.put(transfer.GENERATOR, of_another_width(tmp)),
        "do not fit its own configuration",
    ),
    "values that are no numbers": (
        lambda p, tmp: p.put(transfer.GENERATOR, with_nan(tmp)),
        "not finite numbers",
    ),
    "a judge for a generator": (
        lambda p, _: p.put(transfer.GENERATOR, p.files[transfer.JUDGE]),
        "holds a judge",
    ),
    "a judge of other classes": (
        lambda p, tmp: p.put(
            transfer.JUDGE,
            checkpoint(
                tmp,
                tiny_judge(class_count=4),
                tiny_header("judge", JudgeConfig(image_shape=SHAPE, class_count=4, width=8)),
            ),
        ),
        "contradict each other",
    ),
    "an index that does not fit": (
        lambda p, _: p.put(transfer.INDEX, p.files[transfer.JUDGE]),
        "holds no training index",
    ),
    "examples that do not fit": (
        lambda p, _: p.put(transfer.EXAMPLES, p.files[transfer.JUDGE]),
        "holds no examples",
    ),
    "other classes than it says": (
        lambda p, _: p.tell(class_names=["x", "y", "z"]),
        "contradict each other",
    ),
    "a member too many": (lambda p, _: p.files.update({"x.pkl": b""}), "a model is"),
    "a member too few": (lambda p, _: p.files.pop(transfer.JUDGE), "a model is"),
    "a name that leads out": (lambda p, _: p.files.update({"../x": b""}), "a model is"),
    "files that are not there": (
        lambda p, _: p.tell(files={}),
        "other files than the archive holds",
    ),
    "a document that is none": (
        lambda p, _: p.files.update({transfer.DOCUMENT: b"[1"}),
        "cannot be used",
    ),
    "a version of the future": (lambda p, _: p.tell(schema_version=99), "schema_version"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_whatever_was_tampered_with_is_refused_and_nothing_is_kept(
    engine, storage, owner, trained, tmp_path, what
):
    spoil, told = SPOILT[what]
    package = Package(exported(engine, storage, owner.id))
    spoil(package, tmp_path)
    before = {found.key for found in storage.list("")}

    with pytest.raises(InvalidFile, match=told):
        imported(engine, storage, owner.id, package.data(), tmp_path)
    assert {found.key for found in storage.list("")} == before
    with reading(engine) as session:
        assert session.scalar(select(func.count()).select_from(Model)) == 1


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no zip at all" * 99])
def test_what_is_no_zip_is_refused(engine, storage, owner, tmp_path, data):
    with pytest.raises(InvalidFile):
        imported(engine, storage, owner.id, data, tmp_path)


def test_compressed_members_are_refused(engine, storage, owner, trained, tmp_path):
    package = Package(exported(engine, storage, owner.id))

    with pytest.raises(InvalidFile, match="the file was changed"):
        imported(engine, storage, owner.id, package.data(zipfile.ZIP_DEFLATED), tmp_path)


def test_what_another_owner_exports_does_not_name_the_images_of_the_training(
    engine, storage, trained, tmp_path
):
    with writing(engine) as session:
        session.get_one(Model, trained.id).visibility = "public"
        other = keys.ensure_owner(session, "other")
    data = exported(engine, storage, other)

    found = imported(engine, storage, other, data, tmp_path)

    assert (found.dataset_digest, found.parent_digest) == (None, None)
    for name, content in Package(data).files.items():
        # Of the row, and of the headers.
        assert b"d" * 64 not in content, name
        assert b"0" * 64 not in content, name
        assert b"7" * 64 not in content, name
    assert exported(engine, storage, other) == data
