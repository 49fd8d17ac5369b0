from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from datagen.db.tables import new_id
from datagen.schemas import (
    MAX_IMAGES,
    MAX_SEED,
    MAX_TEMPERATURE,
    Dataset,
    DatasetCreate,
    DatasetSource,
    DecodeCreate,
    Deliver,
    ExportCreate,
    JobCreate,
    ModelCreate,
    Page,
    PipelineApply,
    Plan,
    PreviewCreate,
    Request,
    TrainedModel,
)


@pytest.mark.parametrize(
    "wanted",
    [
        {"labels": {"3": 1}},
        {"labels": {"3": MAX_IMAGES, "é, a label": 1}},
        {"all": 1, "seed": 0, "temperature": 0},
        {"all": 1, "seed": MAX_SEED, "temperature": MAX_TEMPERATURE},
        {"all": 1, "exports": ["parquet"]},
    ],
)
def test_usable_requests_are_taken(wanted):
    assert JobCreate.model_validate({"model": "mnist", **wanted}).temperature >= 0


@pytest.mark.parametrize("kind", [JobCreate, PreviewCreate])
@pytest.mark.parametrize("seed", [0, 7, 2**53 + 1, MAX_SEED])
def test_seed_is_taken_as_a_number_or_as_its_digits(kind, seed):
    for given in (seed, str(seed)):
        body = json.dumps(
            {"all": 1, "seed": given, **({"model": "m"} if kind is JobCreate else {})}
        )
        assert kind.model_validate_json(body).seed == seed


@pytest.mark.parametrize(
    "seed",
    ["", " ", "-1", "+7", "7.0", "1e3", "0x7", "٣", "1_0", str(MAX_SEED + 1), "9" * 5000, 7.0],
)
def test_text_that_spells_no_seed_is_refused(seed):
    with pytest.raises(ValidationError) as refused:
        JobCreate.model_validate({"model": "m", "all": 1, "seed": seed})
    assert refused.value.errors()[0]["loc"] == ("seed",)


def test_digits_are_a_seed_wherever_one_is_named():
    digits = str(2**53 + 1)
    recipe = {
        "name": "n", "source": {"dataset": "d", "refresh": {"source": "s3://b/d", "seed": digits}},
        "model": {"train": {"seed": digits}}, "plan": {"fill": 1}, "seed": digits,
        "deliver": [{"format": "npz", "split_seed": digits}],
    }  # fmt: skip
    found = PipelineApply.model_validate(recipe)
    assert isinstance(found.model, TrainedModel)
    assert {
        found.seed, found.deliver[0].split_seed, found.model.train.seed,
        found.source.refresh.seed if found.source.refresh else None,
        ModelCreate(name="m", dataset="d", options={"seed": digits}).options.seed,
    } == {2**53 + 1}  # fmt: skip


def test_api_tells_that_large_seeds_go_as_text():
    for schema in (JobCreate, PreviewCreate, ModelCreate, DatasetSource, ExportCreate):
        told = json.dumps(schema.model_json_schema())
        assert "Send a seed above 2^53 - 1 (9007199254740991) so from JavaScript" in told, schema


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"labels": {"3": "5"}}, "labels"),
        ({"labels": {"3": 2.0}}, "labels"),
        ({"labels": {"3": MAX_IMAGES + 1}}, "labels"),
        ({"labels": ["3"]}, "labels"),
        ({"all": 0}, "all"),
        ({"all": 1, "seed": MAX_SEED + 1}, "seed"),
        ({"all": 1, "seed": True}, "seed"),
        ({"all": 1, "temperature": "warm"}, "temperature"),
        ({"all": 1, "temperature": MAX_TEMPERATURE + 0.1}, "temperature"),
        ({"all": 1, "exports": ["parquet"] * 9}, "exports"),
        ({"all": 1, "model": ""}, "model"),
        ({"all": 1, "model": "m" * 201}, "model"),
        ({"count": 0}, "count"),
        ({"all": 1, "colour": 5}, "colour"),
    ],
)
def test_unusable_values_are_refused_by_their_field(wanted, field):
    with pytest.raises(ValidationError) as refused:
        JobCreate.model_validate({"model": "mnist", **wanted})
    assert refused.value.errors()[0]["loc"][0] == field


@pytest.mark.parametrize(
    "wanted", [{}, {"labels": {}}, {"labels": {"3": 1}, "all": 1}, {"all": 1, "count": 1}]
)
def test_plan_is_given_in_exactly_one_way(wanted):
    with pytest.raises(ValidationError, match=r"labels|count"):
        JobCreate.model_validate({"model": "mnist", **wanted})


@pytest.mark.parametrize("name", ["a", "0", "my-model_2.1", "m" * 64])
def test_usable_names_are_taken(name):
    assert ModelCreate(name=name, dataset="d").name == name


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "a b", "a/b", "a@1", "m" * 65, "a\n", "é"])
def test_names_that_mean_something_else_are_refused(name):
    with pytest.raises(ValidationError):
        ModelCreate(name=name, dataset="d")


def test_misspelt_training_option_is_refused():
    with pytest.raises(ValidationError, match="epoch"):
        ModelCreate.model_validate({"name": "m", "dataset": "d", "options": {"epoch": 3}})


def test_export_needs_a_jobs_id():
    with pytest.raises(ValidationError, match="job"):
        ExportCreate.model_validate({"job": "the last one", "format": "parquet"})


def test_answers_of_a_newer_server_can_be_read():
    answer = {
        "id": str(new_id()),
        "name": "d",
        "version": 1,
        "digest": "a" * 64,
        "class_names": ["x"],
        "image_shape": [1, 2, 3],
        "counts": {"train": [1]},
        "created_at": datetime.now(UTC).isoformat(),
        "colour_space": "added later",
    }

    assert Page[Dataset].model_validate({"items": [answer], "total": 1}).items[0].name == "d"


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (ExportCreate, {"splits": {"train": 2}}),
        (ExportCreate, {"splits": {"nowhere": 1}}),
        (ExportCreate, {"splits": {"train": 0.5}}),
        (ExportCreate, {"labels": []}),
        (ExportCreate, {"license": "none"}),
        (ExportCreate, {"license": "  "}),
        (ExportCreate, {"license": "--"}),
        (ExportCreate, {"license": "MIT\u2028"}),
        (Deliver, {"splits": {"train": 2}}),
        (Deliver, {"splits": {}}),
        (Deliver, {"license": "NOASSERTION"}),
        (Plan, {"labels": {}}),
        (DatasetCreate, {"split": {"test": 1}}),
        (DatasetCreate, {"split": {"train": 2}}),
        (DatasetCreate, {"license": "n/a"}),
    ],
)
def test_what_no_work_could_use_is_refused_when_it_is_written(kind, changes):
    good = {
        ExportCreate: {"dataset": "d", "format": "parquet", "license": "for use in the house"},
        Deliver: {"format": "parquet", "splits": {"train": 0.8, "test": 0.2}},
        Plan: {"labels": {"a": 1}},
        DatasetCreate: {"name": "d", "source": "x", "split": {"train": 1.0}, "license": "cc0-1.0"},
    }[kind]
    kind.model_validate(good)

    with pytest.raises(ValidationError):
        kind.model_validate(good | changes)


def requests_of(kind):
    for one in kind.__subclasses__():
        yield one
        yield from requests_of(one)


def takes_numbers(schema):
    kinds = [one.get("type") for one in schema.get("anyOf", [schema])]
    return bool({"integer", "number"} & set(kinds))


def number_fields():
    for kind in requests_of(Request):
        for name, schema in kind.model_json_schema()["properties"].items():
            if takes_numbers(schema):
                yield pytest.param(kind, name, id=f"{kind.__name__}.{name}")


@pytest.mark.parametrize(("kind", "name"), list(number_fields()))
@pytest.mark.parametrize("value", [True, False])
def test_true_and_false_are_no_numbers(kind, name, value):
    with pytest.raises(ValidationError) as refused:
        kind.model_validate({name: value})
    wrong = [error for error in refused.value.errors() if error["loc"] == (name,)]
    assert [error["type"] for error in wrong] != ["missing"]
    assert wrong


def test_shares_latents_and_indices_are_numbers_too():
    with pytest.raises(ValidationError, match="write a number, not false"):
        ExportCreate.model_validate({"job": "j", "format": "parquet", "indices": [False, True]})
    with pytest.raises(ValidationError, match="write a number, not true"):
        Deliver.model_validate({"format": "parquet", "splits": {"train": True}})
    with pytest.raises(ValidationError, match="write a number, not false"):
        DecodeCreate.model_validate({"latents": [[0.5, False]], "labels": ["3"]})
