"""What the OpenAPI document says: that it is valid, where one goes on, what a stream holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from application import ANY_ID

from datagen.api.app import create_app
from datagen.queue import MemoryQueue
from datagen.settings import Settings


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("openapi")
    settings = Settings(
        home=home, database_url=f"sqlite:///{home / 'd.db'}", storage_url=(home / "s").as_uri()
    )
    # As clients get it: nothing that is no JSON, no object that is in two places.
    made: dict[str, Any] = json.loads(
        json.dumps(create_app(settings, queue=MemoryQueue()).openapi())
    )
    return made


@pytest.fixture
def operations(document: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    return {
        operation["operationId"]: (path, operation)
        for path, methods in document["paths"].items()
        for operation in methods.values()
    }


def links_of(operations: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, (_, operation) in operations.items():
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                yield name, link


def test_the_document_is_valid_by_the_version_that_it_names(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()


def test_every_operation_on_a_thing_is_linked_to_from_what_makes_it(operations: Any) -> None:
    linked = {link["operationId"] for _, link in links_of(operations)}
    on_things = {name for name, (path, _) in operations.items() if "{" in path}
    assert on_things <= linked


def test_every_operation_that_makes_a_thing_leads_on(operations: Any) -> None:
    making = {
        name
        for name, (path, operation) in operations.items()
        if path.startswith("/v1")
        and {"201", "202"} & set(operation["responses"])
        # A link and a session are no things with an id; a picture that is waited for neither.
        and name not in {"create_link", "create_sign_in_link", "read_figure"}
        # The same id as before, or what leads on where it was made.
        and name not in {"rotate_webhook", "resend_delivery"}
    }
    assert making <= {name for name, _ in links_of(operations)}


def test_links_name_parameters_and_bodies_that_their_operations_take(
    document: dict[str, Any], operations: Any
) -> None:
    for name, link in links_of(operations):
        path, operation = operations[link["operationId"]]
        needed = {part.partition("}")[0] for part in path.split("{")[1:]}
        assert set(link.get("parameters", {})) == needed, (name, link)
        if "requestBody" in link:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            body = json.dumps(link["requestBody"]).replace("$response.body#/id", ANY_ID)
            body = body.replace("$response.body#/name", "digits")
            whole = {**schema, "components": document["components"]}
            assert jsonschema_rs.is_valid(whole, json.loads(body)), (name, link)


def test_what_is_made_links_to_what_can_be_done_with_it(operations: Any) -> None:
    made = operations["create_job"][1]["responses"]["202"]["links"]
    assert {"read_job", "cancel_job", "list_samples", "remove_job", "create_export"} <= set(made)
    assert made["read_sample"]["parameters"] == {"job_id": "$response.body#/id", "index": "0"}
    run = operations["run_pipeline"][1]["responses"]["202"]["links"]
    assert set(run) == {"read_run", "cancel_run"}
    # A dry run names what would be there, and has no id.
    assert "links" not in operations["create_dataset"][1]["responses"]["200"]
    assert "links" in operations["apply_pipeline"][1]["responses"]["200"]


def test_a_stream_is_described_by_one_of_its_events(
    document: dict[str, Any], operations: Any
) -> None:
    content = operations["follow_job"][1]["responses"]["200"]["content"]["text/event-stream"]
    assert "schema" not in content
    schema = {**content["itemSchema"], "components": document["components"]}
    for event, fits in {
        ("state", "{}"): True,  # what is in it is for a reader of the content
        ("progress", "{}"): True,
        ("removed", "{}"): True,
        ("removed", "gone"): False,
        ("message", "{}"): False,
    }.items():
        found = {"event": event[0], "data": event[1], "id": "7"}
        assert jsonschema_rs.is_valid(schema, found) is fits, event
