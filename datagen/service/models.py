"""Models: trainings from request to result, and the model that ships with datagen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from datagen import bundled, schemas
from datagen.db.session import now
from datagen.db.tables import Dataset, Figures, Job, Model, Owner, Report, new_id
from datagen.errors import Conflict, Forbidden, InvalidFile, InvalidRequest, NotFound
from datagen.model.config import MAX_SIDE, GeneratorConfig
from datagen.model.header import CheckpointHeader, read_header
from datagen.model.training_options import TrainingOptions
from datagen.queue import Message
from datagen.schemas import ENDED, ModelChange, ModelCreate, Page
from datagen.schemas.base import first_problem
from datagen.service import batches, claims, sharing
from datagen.service.common import (
    find_dataset,
    find_model,
    insert_if_absent,
    next_version,
    page_of,
    the_only_version,
)
from datagen.service.keys import ensure_owner
from datagen.service.model_files import ModelFiles, StoredFile
from datagen.service.sharing import BUNDLED_OWNER
from datagen.service.trainings import run_message
from datagen.service.unreadable_rows import skip_unreadable
from datagen.settings import Settings
from datagen.storage import Storage

TRAINING_SPLIT = "train"
NAMED_USERS = 3


class _User(NamedTuple):
    """A job or a report that a model was used for."""

    id: UUID
    owner_id: UUID
    state: str


def create(
    session: Session, settings: Settings, owner_id: UUID, request: ModelCreate
) -> tuple[schemas.Model, list[Message]]:
    """Write a training, as the next version of the model's name.

    Raises:
        NotFound: no such dataset of the owner's, or no model to start from that they may see.
        Conflict: that model is not trained, or was removed.
        Forbidden: it is another owner's, who does not share it any more.
        InvalidRequest: a dataset that nothing can be trained on, or a model to start from that was
            trained on other images or has other networks.
    """
    del settings  # the signature of all that cause work
    dataset = find_dataset(session, owner_id, request.dataset)
    _refuse_untrainable(dataset)
    options = _checked_options(request)
    parent = None
    if request.from_model is not None:
        # It cannot be removed until the training that names it is written.
        parent = find_model(session, owner_id, request.from_model, usable=True)
        parent = session.get(
            Model, parent.id, with_for_update={"key_share": True}, populate_existing=True
        )
        if parent is None:
            raise NotFound(f"There is no model {request.from_model!r} any more.")
        _refuse_as_parent(parent, owner_id, dataset, options)
    moment = now(session)
    model = Model(
        id=new_id(),
        owner_id=owner_id,
        name=request.name,
        version=next_version(session, Model, owner_id, request.name),
        state="queued",
        visibility="private",
        dataset_id=dataset.id,
        dataset_digest=dataset.digest,
        parent_id=None if parent is None else parent.id,
        parent_digest=None if parent is None else parent.digest,
        options=options,
        class_names=dataset.class_names,
        image_shape=dataset.image_shape,
        metrics={},
        progress={},
        created_at=moment,
        available_at=moment,
        sent_at=moment,
    )
    session.add(model)
    session.flush()
    return to_schema(session, model, owner_id), [run_message(model.id)]


def _checked_options(request: ModelCreate) -> dict[str, Any]:
    """The options that were given. Raises InvalidRequest where the training would refuse them."""
    options = request.options.model_dump(exclude_none=True)
    try:
        TrainingOptions.model_validate(options)
    except ValidationError as error:
        option, why = first_problem(error)
        raise InvalidRequest(f"'options.{option}': {why}.", field=f"options.{option}") from None
    family = options.get("family", "cvae")
    if options.get("prior") == "learnt" and family != "cvae":
        raise InvalidRequest(
            f"'options.prior' is 'learnt', a prior of each label, and the family {family!r} knows "
            "no labels; use another prior, or the family 'cvae'.",
            field="options.prior",
        )
    return options


def _refuse_as_parent(
    parent: Model, owner_id: UUID, dataset: Dataset, options: dict[str, Any]
) -> None:
    """Refuse a training that cannot start from a model, by what is known of both."""
    sharing.refuse_withdrawn(parent, owner_id)
    if parent.state != "succeeded":
        raise Conflict(
            f"The model {parent.name}@{parent.version} is {parent.state}; a training starts from "
            "one that is trained."
        )
    channels, height, width = dataset.image_shape
    own = TrainingOptions.model_validate(options if parent.config else {})
    own.starting_from(_architecture(parent), (channels, height, width))


def _architecture(model: Model) -> GeneratorConfig:
    """What a model's networks look like, as far as its row says."""
    # Of an old model's networks its checkpoint alone knows; the training looks there.
    known = model.config or {"class_count": len(model.class_names)}
    return GeneratorConfig.model_validate({"image_shape": model.image_shape} | known)


def is_outgrown(parent: Model, request: ModelCreate) -> bool:
    """Whether a training by these options does better from nothing than from a model's weights."""
    options = TrainingOptions.model_validate(request.options.model_dump(exclude_none=True))
    return options.outgrows(_architecture(parent))


def _refuse_untrainable(dataset: Dataset) -> None:
    what = f"The dataset {dataset.name}@{dataset.version}"
    if TRAINING_SPLIT not in dataset.counts:
        splits = ", ".join(sorted(dataset.counts))
        raise InvalidRequest(
            f"{what} has the splits {splits}; a training needs one called {TRAINING_SPLIT!r}.",
            field="dataset",
        )
    if max(dataset.image_shape[1:]) > MAX_SIDE:
        raise InvalidRequest(
            f"{what} has images of {dataset.image_shape[1]} x {dataset.image_shape[2]} pixels; "
            f"make them at most {MAX_SIDE} a side.",
            field="dataset",
        )


def to_schema(session: Session, model: Model, owner_id: UUID) -> schemas.Model:
    """The wire form of a model, as an owner may see it."""
    plain = {name: getattr(model, name, None) for name in schemas.Model.model_fields}
    own: dict[str, Any] = {
        "dataset": model.dataset_id,
        "config": model.config or {},
        "parent": _parent_as_seen(session, model, owner_id),
    }
    if not sharing.names_dataset(session, model, owner_id):
        own |= dict.fromkeys(("dataset", "dataset_digest", "parent", "parent_digest"))
    return schemas.Model.model_validate(plain | own)


def _parent_as_seen(session: Session, model: Model, owner_id: UUID) -> schemas.ModelRef | None:
    """The model that a training started from, where it is still there and the owner may see it."""
    parent = None if model.parent_id is None else session.get(Model, model.parent_id)
    if parent is None or sharing.withdrawn(parent, owner_id) is not None:
        return None
    return schemas.ModelRef.model_validate(parent)


def read(session: Session, owner_id: UUID, reference: str) -> schemas.Model:
    """A model by `name` (the latest version), `name@version` or id. Raises NotFound."""
    return to_schema(session, find_model(session, owner_id, reference), owner_id)


def list_models(
    session: Session, owner_id: UUID, *, limit: int = 50, cursor: str | None = None
) -> Page[schemas.Model]:
    """The owner's models and the public ones, newest first. Raises InvalidRequest."""
    query = select(Model).where(
        or_(Model.owner_id == owner_id, Model.visibility == "public"), Model.removed_at.is_(None)
    )
    rows, following = page_of(session, query, Model, limit, cursor)
    return Page(
        items=skip_unreadable(
            rows, lambda some: [to_schema(session, row, owner_id) for row in some]
        ),
        next_cursor=following,
    )


def change(session: Session, owner_id: UUID, reference: str, wanted: ModelChange) -> schemas.Model:
    """Let every owner make images with a model, or no other one.

    Open jobs and reports of other owners fail, with the reason, where it is made private.

    A name that means a public model of one owner never comes to mean another's: whoever asks for it
    trusts who gave it.

    Raises:
        NotFound: no such model that the owner may see.
        Forbidden: another owner's public model.
        Conflict: its training has not succeeded, or the name is another owner's public model's.
    """
    model = find_model(session, owner_id, reference)
    what = f"The model {model.name}@{model.version}"
    if model.owner_id != owner_id:
        raise Forbidden(f"{what} belongs to another owner.")
    if wanted.visibility == "public":
        if model.state != "succeeded":
            raise Conflict(f"{what} is {model.state}; make it public when it is trained.")
        # Two owners who do so at once wait for each other here.
        bundled_owner = select(Owner.id).where(Owner.name == BUNDLED_OWNER)
        session.execute(bundled_owner.with_for_update(key_share=True))
        taken = select(Model.id).where(
            Model.name == model.name,
            Model.owner_id != owner_id,
            Model.visibility == "public",
            Model.removed_at.is_(None),
        )
        if session.scalar(taken.limit(1)) is not None:
            raise Conflict(
                f"The name {model.name!r} is a public model of another owner's; export yours, and "
                "import it under another name."
            )
    model.visibility = wanted.visibility
    session.flush()
    if wanted.visibility == "private":
        moment = now(session)
        batches.end_of_others(session, model, moment)
        sharing.end_reports_of_others(session, model, moment)
        session.flush()
    return to_schema(session, model, owner_id)


def cancel(session: Session, owner_id: UUID, model_id: UUID) -> schemas.Model:
    """End a training now; its worker stops at its next look.

    Raises:
        NotFound: no such model that the owner may see.
        Forbidden: another owner's public model.
        Conflict: the training has ended already.
    """
    model = session.scalars(
        select(Model)
        .where(Model.id == model_id, or_(Model.owner_id == owner_id, Model.visibility == "public"))
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if model is None:
        raise NotFound(f"There is no model {model_id}.")
    if model.state in ENDED:
        raise Conflict(f"The training of {model.name} is {model.state}; it cannot be cancelled.")
    if model.owner_id != owner_id:
        raise Forbidden(f"The model {model.name!r} belongs to another owner.")
    model.state, model.ended_at = "cancelled", now(session)
    model.lease_until = model.state_key = None
    session.flush()
    return to_schema(session, model, owner_id)


def remove(session: Session, owner_id: UUID, reference: str, *, force: bool = False) -> None:
    """Remove a model; its weights follow when the store is swept.

    Where jobs or reports have used it, `force` leaves a tombstone: they stay as they are, and the
    weights go.

    Raises:
        NotFound: the owner has none such.
        Conflict: a name with several versions; a training that has not ended; another training that
            starts from it; jobs or reports that have used it, without `force`; or one that still
            does.
    """
    model = the_only_version(session, Model, owner_id, reference)
    what = f"The model {model.name}@{model.version}"
    session.refresh(model, with_for_update=True)
    if model.state not in ENDED:
        raise Conflict(f"{what} is in training; cancel that first.")
    if (child := _training_from(session, model)) is not None:
        raise Conflict(
            f"{what} is what the training of {child.name}@{child.version} starts from; cancel that "
            "first."
        )
    used = {kind: _users(session, kind, model.id) for kind in (Job, Report)}
    for kind, rows in used.items():
        if going := [row for row in rows if row.state not in ENDED]:
            raise Conflict(f"{what} is used by {_named(kind, going, owner_id)}; cancel that first.")
    for kind, rows in used.items():
        if rows and not force:
            raise Conflict(
                f"{what} is what {_named(kind, rows, owner_id)} came of; force it to remove the "
                "weights all the same: jobs, images and reports then stay."
            )
    session.execute(delete(Figures).where(Figures.model_id == model.id))
    if any(used.values()):
        model.removed_at = now(session)
    else:
        session.delete(model)
    session.flush()


def _training_from(session: Session, model: Model) -> Model | None:
    """A training of the model's owner that starts from it and has not ended.

    Those of others are not named, and hinder nobody: they fail with the reason.
    """
    query = select(Model).where(
        Model.parent_id == model.id,
        Model.owner_id == model.owner_id,
        Model.state.in_(claims.OPEN),
    )
    return session.scalars(query.limit(1)).first()


def _users(session: Session, kind: type[Job | Report], model_id: UUID) -> Sequence[_User]:
    rows = session.execute(
        select(kind.id, kind.owner_id, kind.state)
        .where(kind.model_id == model_id)
        .order_by(kind.id)
    )
    return [_User(*row) for row in rows]


def _named(kind: type[Job | Report], rows: Sequence[_User], owner_id: UUID) -> str:
    """Some of the owner's, and how many there are beside them; others' have no names here."""
    own = [str(row.id) for row in rows if row.owner_id == owner_id][:NAMED_USERS]
    rest = len(rows) - len(own)
    more = f"{rest:,} {'more' if own else 'of other owners'}"
    parts = [*own, more] if rest else own
    word = kind.__name__.lower()
    return f"{len(rows):,} {word}{'' if len(rows) == 1 else 's'} ({', '.join(parts)})"


def ensure_bundled(session: Session, storage: Storage) -> None:
    """Register the model that ships with datagen, as a public one; safe to repeat.

    Other weights than those of the version before become the model's next version, so that jobs
    keep the model that they were made with.

    Raises:
        InvalidFile: the shipped files are damaged.
        StorageFailure: the weights cannot be stored.
    """
    # They are made by `make bundled`, with a datagen that has none yet.
    if not (bundled.MODEL.exists() and bundled.JUDGE.exists()):
        return
    header = _header(bundled.MODEL, "cvae")
    _header(bundled.JUDGE, "judge")
    files = ModelFiles(
        _stored(storage, bundled.MODEL),
        _stored(storage, bundled.JUDGE),
        index=_stored(storage, bundled.INDEX) if bundled.INDEX.exists() else None,
    )
    owner_id, name = ensure_owner(session, BUNDLED_OWNER), bundled.MODEL.stem
    version = next_version(session, Model, owner_id, name)
    same = select(Model.id).where(
        Model.owner_id == owner_id,
        Model.name == name,
        Model.digest == files.generator.digest,
        Model.judge_digest == files.judge.digest,
        Model.index_digest == (files.index.digest if files.index else None),
    )
    if session.execute(same).first() is not None:
        return
    moment = now(session)
    insert_if_absent(
        session,
        Model,
        id=new_id(),
        owner_id=owner_id,
        name=name,
        version=version,
        state="succeeded",
        visibility="public",
        options=header.options,
        config=header.config,
        dataset_digest=header.training_digest,
        class_names=list(header.class_names),
        image_shape=list(header.image_shape),
        metrics=header.metrics,
        progress={},
        **files.columns(),
        attempt=0,
        attempt_floor=0,
        available_at=moment,
        created_at=moment,
        ended_at=moment,
    )


def _header(path: Path, kind: str) -> CheckpointHeader:
    header = read_header(path)
    if header.kind != kind:
        raise InvalidFile(
            f"{path.name} holds a {header.kind}, not a {kind}; install datagen again."
        )
    return header


def _stored(storage: Storage, path: Path) -> StoredFile:
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    key = f"models/{digest}.safetensors"
    if not storage.exists(key):
        storage.put(key, data)
    return StoredFile(key, digest)
