"""Examples and links in the OpenAPI document: what a body looks like, and what comes next."""

from __future__ import annotations

import re
from typing import Any

_PARAMETER = re.compile(r"\{(\w+)\}")
_ID = "$response.body#/id"

_RECIPE = {
    "name": "nightly",
    "source": {"dataset": "defects"},
    "model": "defects",
    "plan": {"fill": 5000},
    "seed": 5,
    "deliver": [{"format": "imagefolder", "merge": True}],
    "schedule": {"cron": "0 2 * * *", "timezone": "Europe/Berlin"},
}
# By operation, a body that says what it is for.
BODIES: dict[str, Any] = {
    "create_job": {
        "model": "mnist",
        "labels": {"3": 500, "8": 200},
        "seed": 7,
        "gate": {"min_score": 0.5},
        "exports": ["parquet"],
        "metadata": {"ticket": "VIS-17"},
        "retention_days": 30,
    },
    "extend_job": {"labels": {"3": 100}},
    "create_export": {
        "job": "0190b3f2-6f1e-7c31-9d5e-2f6a4c8e1b07",
        "format": "webdataset",
        "splits": {"train": 0.8, "validation": 0.1, "test": 0.1},
        "labels": ["3", "8"],
        "min_score": 0.9,
    },
    "create_link": {"archive": "zip", "expires_in": 3600},
    "create_dataset": {"name": "digits", "source": "sample:mnist"},
    "create_model": {
        "name": "defects",
        "dataset": "defects",
        "options": {"preset": "base", "time_budget": 1800, "seed": 7},
    },
    "change_model": {"visibility": "public"},
    "preview_model": {"labels": {"3": 8, "8": 8}, "seed": 7, "sampler": "prior"},
    "decode_latents": {"latents": [[0.0] * 32], "labels": ["3"]},
    "create_figures": {"dataset": "defects"},
    "create_report": {"model": "mnist", "quick": True},
    "create_key": {
        "owner": "team-a",
        "scopes": ["read", "write"],
        "expires_in": 7_776_000,
        "quota_images": 1_000_000,
    },
    "rotate_key": {"grace": 3600},
    "create_webhook": {"url": "https://ci.example/datagen", "events": ["job.failed"]},
    "apply_pipeline": _RECIPE,
    "validate_pipeline": _RECIPE,
}
# By the operation that makes a thing, bodies of other operations that name it.
_NAMED_BY: dict[str, dict[str, Any]] = {
    "create_job": {
        "create_export": {"job": _ID, "format": "parquet"},
        "create_report": {"job": _ID, "quick": True},
    },
    "create_webhook": {"create_job": {"model": "mnist", "all": 1, "webhook": _ID}},
}


def add_examples(paths: dict[str, dict[str, Any]]) -> None:
    """Put an example beside the schema of every body that is JSON. Raises KeyError without one."""
    for operations in paths.values():
        for operation in operations.values():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body is not None:
                body["example"] = BODIES[operation["operationId"]]


def add_links(paths: dict[str, dict[str, Any]]) -> None:
    """Say of every answer that makes a thing which operations its id leads to."""
    for path, operations in paths.items():
        making = operations.get("post")
        if making is None or _PARAMETER.search(path):
            continue
        links = {
            operation["operationId"]: {
                "operationId": operation["operationId"],
                "parameters": {parameters[0]: _ID},
            }
            for other, others in paths.items()
            if other.startswith(f"{path}/{{") and len(parameters := _PARAMETER.findall(other)) == 1
            for operation in others.values()
        }
        links |= {
            name: {"operationId": name, "requestBody": body}
            for name, body in _NAMED_BY.get(making["operationId"], {}).items()
        }
        made = next((status for status in ("201", "202") if status in making["responses"]), None)
        if made is not None and links:
            making["responses"][made]["links"] = links
