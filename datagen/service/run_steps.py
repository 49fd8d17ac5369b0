"""The steps of a run: how each begins, and what is made of what it waited for.

A step writes what it makes and its own record in one transaction, so a process that is killed
leaves either both or neither, and no step is done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.tables import Dataset, Export, Job, Model, Report, Run
from datagen.errors import Conflict, DatagenError, InvalidRequest, NotFound
from datagen.queue import RUN_STEP, Message
from datagen.schemas import (
    ENDED,
    ExportCreate,
    JobCreate,
    ModelCreate,
    PipelineApply,
    ReportCreate,
    Step,
    TrainedModel,
)
from datagen.service import (
    exports,
    job_changes,
    jobs,
    models,
    reports,
    run_checks,
    run_plans,
    run_records,
    sharing,
)
from datagen.service.common import find_dataset, find_model
from datagen.service.learnt import Learnt
from datagen.service.run_kept import is_own, location_of, superseded
from datagen.settings import Settings

Row = TypeVar("Row", Job, Model, Report)

TOLD_CLASSES = 10
# What a worker does for a step, where a transaction would be too short.
REFRESH, PRUNE = "refresh", "prune"
WORK = (REFRESH, PRUNE)
KINDS: dict[str, type[Job | Model | Report | Export]] = {
    "job": Job,
    "model": Model,
    "report": Report,
    "export": Export,
}


@dataclass(frozen=True)
class At:
    """Where a run stands.

    Attributes:
        session: in the transaction that goes on with it, which holds its row.
        settings: of the process.
        run: the row.
        recipe: that it follows.
        moment: now.
    """

    session: Session
    settings: Settings
    run: Run
    recipe: PipelineApply
    moment: datetime

    def say(self, name: Step, text: str) -> None:
        """A line in the log of a step."""
        run_records.say(self.run, name, self.moment, text)

    def link(self, name: Step, kind: str, row_id: UUID) -> None:
        """What a step has made or takes."""
        run_records.link(self.run, name, kind, row_id)


@dataclass(frozen=True)
class Waits:
    """The step waits for a row to end, or for a worker."""

    kind: str
    row_id: UUID | None = None
    messages: list[Message] = field(default_factory=list)


@dataclass(frozen=True)
class Done:
    """The step has ended; with a sentence, the run has come to its end with it."""

    state: str = "succeeded"
    sentence: str | None = None


SKIPPED = Done("skipped")
Outcome = Waits | Done
# What a report says, or why it cannot be read.
Findings = Mapping[str, Any] | DatagenError | None


def work_of(at: At, kind: str) -> Waits:
    """Have a worker do what takes longer than a transaction may."""
    run = at.run
    # An attempt whose lease is over may be taken by whoever comes.
    run.lease_until, run.attempt_floor, run.error = at.moment, run.attempt, None
    return Waits(kind, None, [Message(RUN_STEP, {"run_id": str(run.id)})])


def take_dataset(at: At, dataset: Dataset) -> None:
    """The run is about this version."""
    at.run.dataset_id = dataset.id
    images = sum(map(sum, dataset.counts.values()))
    at.say("refresh", f"Takes the dataset {dataset.name}@{dataset.version}: {images:,} images.")
    at.link("refresh", "dataset", dataset.id)


def _begin_refresh(at: At) -> Outcome:
    source = at.recipe.source
    if source.refresh is None:
        take_dataset(at, find_dataset(at.session, at.run.owner_id, source.dataset))
        return SKIPPED
    at.say("refresh", f"Reads {source.refresh.source}.")
    return work_of(at, REFRESH)


def _look_after_work(at: At, _: Findings) -> Outcome:
    # Where it ends well, the worker itself records that.
    raise Conflict(at.run.error or "Every worker that tried it was killed or fell silent.")


def _begin_train(at: At) -> Outcome:
    wanted, dataset = at.recipe.model, _dataset(at)
    if not isinstance(wanted, TrainedModel):
        model = find_model(at.session, at.run.owner_id, wanted, usable=True)
        if model.state != "succeeded":
            raise Conflict(f"The model {model.name}@{model.version} is {model.state}; train it.")
        _take_model(at, model)
        return SKIPPED
    latest = run_plans.model_there(at.session, at.run.owner_id, at.recipe, dataset)
    if latest is not None:
        _take_model(at, latest)
        return SKIPPED
    name = wanted.name or at.recipe.name
    request = ModelCreate(name=name, dataset=str(dataset.id), options=wanted.train.options)
    made, messages = _created(at, request, from_latest=wanted.train.from_latest)
    start = "" if made.parent is None else f", from {made.parent.name}@{made.parent.version}"
    at.say("train", f"Trains the model {made.name}@{made.version} on {_called(dataset)}{start}.")
    at.link("train", "model", made.id)
    return Waits("model", made.id, messages)


def _created(
    at: At, request: ModelCreate, *, from_latest: bool
) -> tuple[schemas.Model, list[Message]]:
    """A training, which starts from the latest model of its name where it can."""
    owner_id = at.run.owner_id
    latest = run_plans.latest_model(at.session, owner_id, request.name) if from_latest else None
    if latest is not None and models.is_outgrown(latest, request):
        at.say(
            "train",
            f"Does not start from {_called(latest)}, which has single-scale networks: multi-scale "
            "ones learn images of this size better.",
        )
    elif latest is not None:
        warm = request.model_copy(update={"from_model": str(latest.id)})
        try:
            return models.create(at.session, at.settings, owner_id, warm)
        except InvalidRequest as error:
            at.say("train", f"Does not start from {_called(latest)}: {error}")
    return models.create(at.session, at.settings, owner_id, request)


def _look_at_training(at: At, _: Findings) -> Outcome:
    model = _awaited(at, Model)
    _refuse_failure(f"The training of {_called(model)}", model)
    _take_model(at, model)
    return Done()


def _take_model(at: At, model: Model) -> None:
    at.run.model_id = model.id
    at.say("train", f"Takes the model {_called(model)}.")
    at.link("train", "model", model.id)


def _begin_plan(at: At) -> Outcome:
    dataset = _dataset(at)
    found = run_plans.counted(at.recipe.plan, dataset, _learnt(at, dataset))
    at.run.images = found.total
    for note in found.notes:
        at.say("plan", note)
    if not found.total:
        every = "every other class" if found.notes else "every class"
        why = f"{every} has what the plan asks for"
        at.say("plan", f"Nothing to do: {why}.")
        return Done("succeeded", f"Nothing to do: {why}, so nothing is made or delivered.")
    told = [f"{name} +{count:,}" for name, count in found.wanted.items()][:TOLD_CLASSES]
    more = len(found.wanted) - TOLD_CLASSES
    rest = f" and {more} more classes" if more > 0 else ""
    at.say("plan", f"{found.total:,} images: {', '.join(told)}{rest}.")
    return Done()


def _begin_generate(at: At) -> Outcome:
    run, recipe, owner_id = at.run, at.recipe, at.run.owner_id
    if run.job_id is not None and (job := at.session.get(Job, run.job_id)) is not None:
        if job.state == "succeeded":
            return Waits("job", job.id)
        if job.state in {"failed", "cancelled"}:
            try:
                _, messages = job_changes.retry(at.session, at.settings, owner_id, job.id)
            except Conflict:
                at.say("generate", f"Job {job.id} cannot go on; another one is made.")
            else:
                at.say("generate", f"Job {job.id} goes on where it ended.")
                return Waits("job", job.id, messages)
    if (model := _model(at)) is not None:
        sharing.refuse_withdrawn(model, owner_id)
    dataset = _dataset(at)
    gate: dict[str, Any] = {} if recipe.leaves_gate_to_model else {"gate": recipe.gate}
    request = JobCreate(
        model=str(run.model_id),
        labels=run_plans.counted(recipe.plan, dataset, _learnt(at, dataset)).wanted,
        seed=run.seed,
        sampler=recipe.sampler,
        temperature=recipe.temperature,
        truncation=recipe.truncation,
        strength=recipe.strength,
        metadata={"pipeline": recipe.name, "run": str(run.id)},
        **gate,
    )
    made, messages = jobs.create(at.session, at.settings, owner_id, request)
    run.job_id = made.id
    at.say("generate", f"Job {made.id} makes {made.images_requested:,} images by seed {made.seed}.")
    at.link("generate", "job", made.id)
    return Waits("job", made.id, messages)


def _look_at_job(at: At, _: Findings) -> Outcome:
    job = _awaited(at, Job)
    if job.removed_at is not None:
        raise NotFound(f"Job {job.id} was removed.")
    _refuse_failure(f"Job {job.id}", job)
    short = f"; of {job.images_short:,} no candidate passed the gate" if job.images_short else ""
    at.say("generate", f"{job.images_stored:,} images are stored{short}.")
    return Done()


def _begin_check(at: At) -> Outcome:
    checks, run = at.recipe.checks, at.run
    if checks is None:
        return SKIPPED
    request = ReportCreate(
        job=run.job_id, real=str(run.dataset_id), quick=checks.quick, images=checks.images
    )
    made, messages = reports.create(at.session, run.owner_id, request)
    run.report_id = made.id
    at.say("check", f"Report {made.id} measures the images of job {run.job_id}.")
    at.link("check", "report", made.id)
    return Waits("report", made.id, messages)


def _look_at_report(at: At, findings: Findings) -> Outcome:
    report, checks = _awaited(at, Report), at.recipe.checks
    _refuse_failure(f"Report {report.id}", report)
    if isinstance(findings, DatagenError):
        raise findings
    if findings is None or checks is None:
        # It has ended since it was looked for; whoever looks next has read it.
        return Waits("report", report.id)
    if report.sentence:
        at.say("check", report.sentence)
    for line in run_checks.apply(checks, findings):
        at.say("check", line[0].upper() + line[1:])
    return Done()


def _begin_deliver(at: At) -> Outcome:
    run, recipe, owner_id = at.run, at.recipe, at.run.owner_id
    if not recipe.deliver:
        return SKIPPED
    # Of an earlier try.
    former = [at.session.get(Export, UUID(one)) for one in run.exports]
    former += [None] * (len(recipe.deliver) - len(former))
    made, messages = [], []
    for one, before in zip(recipe.deliver, former, strict=True):
        if before is not None and before.state == "succeeded":
            made.append(before.id)
            continue
        path = None if one.destination is None else location_of(one, recipe.name, run)
        request = ExportCreate(
            job=run.job_id,
            dataset=str(run.dataset_id) if one.merge else None,
            format=one.format,
            splits=one.splits,
            split_seed=one.split_seed,
            class_order=one.class_order,
            license=one.license,
            destination=one.destination,
            path=path,
            overwrite=path is not None and is_own(at.session, run, f"{one.destination}/{path}"),
        )
        export, told = exports.create(at.session, at.settings, owner_id, request)
        made.append(export.id)
        messages += told
        where = "" if path is None else f" to {one.destination}/{path}"
        at.say("deliver", f"Export {export.id} writes {export.images_total:,} images as "
               f"{one.format}{where}.")  # fmt: skip
        at.link("deliver", "export", export.id)
    run.exports = [str(one) for one in made]
    return Waits("export", made[0], messages)


def _look_at_exports(at: At, _: Findings) -> Outcome:
    if at.run.waits_for == PRUNE:
        return _look_after_work(at, None)
    for one in at.run.exports:
        export = at.session.get(Export, UUID(one))
        if export is None:
            raise NotFound(f"Export {one} was removed before it was written.")
        if export.state in {"queued", "running"}:
            return Waits("export", export.id)
        _refuse_failure(f"Export {one}", export)
    for one in at.run.exports:
        export = at.session.get_one(Export, UUID(one))
        where = "is ready" if export.location is None else f"lies at {export.location}"
        at.say("deliver", f"Export {one} {where}: {export.bytes or 0:,} bytes.")
    if any(superseded(at.session, at.run, at.recipe)):
        return work_of(at, PRUNE)
    return Done()


def _dataset(at: At) -> Dataset:
    return find_dataset(at.session, at.run.owner_id, str(at.run.dataset_id))


def _learnt(at: At, dataset: Dataset) -> Learnt:
    return run_plans.learnt_by(at.session, dataset, _model(at))


def _model(at: At) -> Model | None:
    return None if at.run.model_id is None else at.session.get(Model, at.run.model_id)


def _called(row: Dataset | Model) -> str:
    return f"{row.name}@{row.version}"


def _awaited(at: At, kind: type[Row]) -> Row:
    row = None if at.run.waits_id is None else at.session.get(kind, at.run.waits_id)
    if row is None:
        raise NotFound(f"{kind.__name__} {at.run.waits_id} was removed while the run waited.")
    return row


def still_waits(at: At) -> bool:
    """Whether what the run waits for is there and has not ended."""
    kind = KINDS.get(at.run.waits_for or "")
    if kind is None or at.run.waits_id is None:
        return False
    row: Any = at.session.get(kind, at.run.waits_id)
    return row is not None and row.state not in ENDED


def _refuse_failure(what: str, row: Job | Model | Report | Export) -> None:
    if row.state != "succeeded":
        why = f": {row.error}" if row.error else ""
        raise Conflict(f"{what} {'was cancelled' if row.state == 'cancelled' else row.state}{why}")


BEGIN: dict[str, Callable[[At], Outcome]] = {
    "refresh": _begin_refresh,
    "train": _begin_train,
    "plan": _begin_plan,
    "generate": _begin_generate,
    "check": _begin_check,
    "deliver": _begin_deliver,
}
LOOK: dict[str, Callable[[At, Findings], Outcome]] = {
    "refresh": _look_after_work,
    "train": _look_at_training,
    "generate": _look_at_job,
    "check": _look_at_report,
    "deliver": _look_at_exports,
}
