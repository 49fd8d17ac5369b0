"""What the OpenAPI document says beside the routes' own words."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from datagen.api.errors import PROBLEM_JSON, problem_of
from datagen.api.linking import add_examples, add_links
from datagen.errors import (
    PROBLEM_PREFIX,
    Conflict,
    DatagenError,
    Forbidden,
    Gone,
    MalformedRequest,
    NotFound,
    StorageFailure,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnknownLabel,
)
from datagen.schemas import DatasetCreate, Problem
from datagen.service.replays import LONGEST_KEY

# The first whose media types say what one event of a stream is (`itemSchema`).
OPENAPI_VERSION = "3.2.0"

DESCRIPTION = """\
Labelled synthetic images from a conditional variational autoencoder.

Ask for images with `POST /v1/jobs`, follow the job until its `state` is `succeeded`, then write
what it made in a format with `POST /v1/exports` and download that. Every request under `/v1`
carries an API key: `Authorization: Bearer dg_…`. Every error is `application/problem+json` whose
`type` is stable, whose `detail` is one sentence, and whose `field` names the value that was wrong.
Lists come in pages: send a page's `next_cursor` as `cursor` to get the following one."""

TAGS = [
    {"name": "jobs", "description": "Requests for images, and the samples that came of them."},
    {"name": "exports", "description": "What a job has stored, written as a dataset to download."},
    {"name": "datasets", "description": "Real labelled images, registered and versioned."},
    {"name": "models", "description": "Trained generators, and training new ones."},
    {"name": "reports", "description": "What images are worth, measured beside real ones."},
    {"name": "pipelines", "description": "Recipes that run again and again, and their runs."},
    {"name": "webhooks", "description": "Notification of what has ended."},
    {"name": "keys", "description": "API keys, their owners, and who asks."},
    {"name": "service", "description": "Whether the service lives and is ready."},
]

_MEANINGS = {
    400: "The request cannot be read.",
    401: "A valid API key is needed.",
    403: "The key's scopes do not reach this far.",
    404: "There is nothing of that name or id that the key's owner may see.",
    409: "The state does not allow this.",
    410: "It was there, and its time is over.",
    413: "The body is too large.",
    429: "More requests than the key may make in this time; `Retry-After` says how long to wait.",
    503: "A part of the service is away; try again.",
    416: "The range lies outside the file.",
    422: "A value cannot be used; `field` names it.",
    507: "The storage cannot be written.",
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
    "description": "Of your making, new for each request: should the same request come again "
    "within 24 hours, it is not done again but answered as the first time, with "
    "`Idempotency-Replayed: true`. Another request under the same key is refused with 422, and one "
    "that comes while the first is being done with 409.",
}


def _example(kind: type[DatagenError], detail: str, field: str | None = None) -> dict[str, Any]:
    problem = problem_of(kind(detail, field=field))
    return problem.model_dump(exclude_none=True)


_EXAMPLES = {
    400: _example(MalformedRequest, "The body cannot be read; send one JSON object with "
                  "Content-Type: application/json."),
    401: _example(Unauthorized, "The API key is not valid; see that it was copied whole."),
    403: _example(Forbidden, "This needs a key with the scope 'write'; yours has read."),
    404: _example(NotFound, "There is no model 'defcts'; `datagen model list` shows them."),
    409: _example(Conflict, "Job 0190b3f2-6f1e-7c31-9d5e-2f6a4c8e1b07 is running; wait for its "
                  "end."),
    410: _example(Gone, "Export 0190b3f2-6f1e-7c31-9d5e-2f6a4c8e1b07 has expired; create it "
                  "again: the same request gives the same files."),
    413: _example(TooLarge, "The body has more than 1,000,000 bytes; send less."),
    416: {
        "type": f"{PROBLEM_PREFIX}range-not-satisfiable",
        "title": "The range lies outside the file",
        "status": 416,
        "detail": "The file has 1048576 bytes; ask for a range within it.",
    },
    422: _example(UnknownLabel, "The model 'mnist' has no label 'eleven'; it knows 0, 1, 2, 3, 4, "
                  "5, 6, 7, 8, 9.", "labels"),
    429: _example(TooManyRequests, "More than 600 requests came within 60 s; wait 12 s, or have "
                  "DATAGEN_RATE_LIMIT raised."),
    503: _example(Unavailable, "No worker answered within 10 s; see `datagen doctor`."),
    507: _example(StorageFailure, "The store cannot be written: No space left on device."),
}  # fmt: skip
_ALWAYS = (400, 401, 403, 422, 429)


def content_of(*media_types: str) -> dict[str, dict[str, str]]:
    """The `content` of an answer that is a file of one of these types."""
    return {name.partition(";")[0]: {} for name in media_types}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route: those of every route under /v1, and these."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": _MEANINGS[status],
            "content": {PROBLEM_JSON: {"schema": schema, "example": _EXAMPLES[status]}},
        }
        for status in sorted({*_ALWAYS, *statuses})
    }


def operation_id(route: APIRoute) -> str:
    """The name of the route's function: `create_job`, `list_exports`."""
    return route.name


def install_openapi(app: FastAPI) -> None:
    """Make the document once, with the schema that all error answers refer to."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                openapi_version=OPENAPI_VERSION,
                description=DESCRIPTION,
                routes=app.routes,
                tags=TAGS,
            )
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = Problem.model_json_schema()
            # A body that may be a file as well, so no route declares it.
            schemas["DatasetCreate"] = DatasetCreate.model_json_schema()
            for path, operations in made["paths"].items():
                if path.startswith("/v1") and "post" in operations:
                    operations["post"].setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
                    conflict = problems(409)[409]
                    operations["post"]["responses"].setdefault("409", conflict)
            add_examples(made["paths"])
            add_links(made["paths"])
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign] # the framework's documented way
