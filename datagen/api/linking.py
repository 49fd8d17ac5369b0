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
    "create_dataset": {
        "create_model": {"name": "linked", "dataset": _ID, "options": {"preset": "small"}},
        "create_export": {"dataset": _ID, "format": "parquet"},
        "create_figures": {"dataset": _ID},
        "apply_pipeline": {
            "name": "linked",
            "source": {"dataset": "$response.body#/name"},
            "model": "mnist",
            "plan": {"add": 1},
        },
    },
    "create_model": {
        "create_job": {"model": _ID, "all": 1},
        "create_report": {"model": _ID, "quick": True},
    },
    "create_webhook": {"create_job": {"model": "mnist", "all": 1, "webhook": _ID}},
}
_NAMED_BY["import_model"] = _NAMED_BY["create_model"]
# What the path of such an operation needs beside a body.
_BESIDE = {"create_figures": {"reference": "mnist"}}
# Operations whose answer has the id of a thing that other paths are about, by those paths.
_LEADS_TO = {
    "import_model": "/v1/models",
    "run_pipeline": "/v1/runs",
    "retry_job": "/v1/jobs",
    "extend_job": "/v1/jobs",
    "rotate_key": "/v1/keys",
}
# What the path of an operation needs beside an id.
_SECOND: dict[str, dict[str, Any]] = {
    "read_sample": {"index": "0"},
    "read_sample_image": {"index": "0"},
    "read_file": {"path": "manifest.json"},
    "show_balance": {"kind": "png"},
    "read_figure": {"name": "samples.png"},
    "read_report_file": {"name": "report.json"},
}
_DELIVERY = {"webhook_id": "$request.path.webhook_id"}
# Links that follow no rule, by the operation that they start from.
_OTHERS: dict[str, dict[str, dict[str, Any]]] = {
    "create_figures": {
        "read_figures": {"reference": "$response.body#/model"},
        "read_figure": {"reference": "$response.body#/model", **_SECOND["read_figure"]},
    },
    "list_samples": {
        name: {"job_id": "$request.path.job_id", "index": "$response.body#/items/0/index"}
        for name in ("read_sample", "read_sample_image")
    },
    "try_webhook": {"resend_delivery": {**_DELIVERY, "delivery_id": _ID}},
    "list_deliveries": {
        "resend_delivery": {**_DELIVERY, "delivery_id": "$response.body#/items/0/id"}
    },
}


def add_examples(paths: dict[str, dict[str, Any]]) -> None:
    """Put an example beside the schema of every body that is JSON. Raises KeyError without one."""
    for operations in paths.values():
        for operation in operations.values():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body is not None:
                body["example"] = BODIES[operation["operationId"]]


def add_links(paths: dict[str, dict[str, Any]]) -> None:
    """Say of every answer that names a thing which operations go on from it."""
    for path, operations in paths.items():
        for method, operation in operations.items():
            creates = method == "post" and not _PARAMETER.search(path)
            name = operation["operationId"]
            links = _links(paths, _LEADS_TO.get(name, path if creates else None), name)
            for answer in _naming(operation) if links else ():
                answer["links"] = links


def _links(paths: dict[str, dict[str, Any]], target: str | None, name: str) -> dict[str, Any]:
    links = {} if target is None else _about(paths, target)
    links |= {
        other: {"operationId": other, "requestBody": body}
        | ({"parameters": _BESIDE[other]} if other in _BESIDE else {})
        for other, body in _NAMED_BY.get(name, {}).items()
    }
    return links | {
        other: {"operationId": other, "parameters": parameters}
        for other, parameters in _OTHERS.get(name, {}).items()
    }


def _about(paths: dict[str, dict[str, Any]], target: str) -> dict[str, Any]:
    """Links to the operations on one of the things that lie at a path."""
    links = {}
    for path, operations in paths.items():
        if not path.startswith(f"{target}/{{"):
            continue
        first, *others = _PARAMETER.findall(path)
        for operation in operations.values():
            name = operation["operationId"]
            second = _SECOND.get(name, {})
            if set(others) == set(second):
                links[name] = {"operationId": name, "parameters": {first: _ID, **second}}
    return links


def _naming(operation: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers of an operation that name what was made; a dry run's make nothing."""
    answers = operation["responses"]
    made = [answers[status] for status in ("201", "202") if status in answers]
    same = answers.get("200", {}).get("content", {}).get("application/json", {}).get("schema")
    if not made or same in [one["content"]["application/json"]["schema"] for one in made]:
        made += [answers["200"]] if "200" in answers else []
    return made
