from __future__ import annotations

from typing import Any

import pytest
from running import wait_until

pytestmark = pytest.mark.xdist_group("stack")

NOBODY = "00000000-0000-7000-8000-000000000000"


def test_report_is_measured_by_a_worker_and_can_be_cancelled(stack: Any, job: Any) -> None:
    asked = stack.created("/v1/reports", {"job": job["id"], "quick": True})
    path = f"/v1/reports/{asked['id']}"
    assert (asked["job"], asked["model"]["name"], asked["quick"]) == (job["id"], "mnist", True)
    assert wait_until(lambda: stack.http.get(path).json()["progress"].get("step"), 60) == "measure"
    early = stack.http.get(f"{path}/files/report.json")
    assert (early.status_code, early.json()["type"]) == (409, "urn:datagen:problem:conflict")
    assert stack.http.delete(path).status_code == 409
    ended = stack.http.post(f"{path}/cancel")
    assert (ended.status_code, ended.json()["state"]) == (200, "cancelled")
    assert stack.http.post(f"{path}/cancel").status_code == 409
    listed = stack.http.get("/v1/reports", params={"job": job["id"]}).json()["items"]
    assert asked["id"] in [each["id"] for each in listed]
    assert stack.http.delete(path).status_code == 204
    assert stack.http.get(path).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "job"),
        ({"job": NOBODY, "model": "mnist"}, 422, "job"),
        ({"job": NOBODY}, 404, None),
        ({"job": "x"}, 422, "job"),
        ({"model": "nope"}, 404, None),
        ({"model": "mnist", "real": "nope"}, 404, None),
        ({"model": "mnist", "images": 0}, 422, "images"),
        ({"model": "mnist", "images": 10**9}, 422, "images"),
        ({"model": "mnist", "quick": "perhaps"}, 422, "quick"),
        ({"model": "mnist", "fast": True}, 422, "fast"),
    ],
)
def test_report_that_cannot_be_made_is_refused_with_its_field(
    stack: Any, body: Any, status: int, field: str | None
) -> None:
    refused = stack.http.post("/v1/reports", json=body)
    assert (refused.status_code, refused.json().get("field")) == (status, field)


def test_unknown_file_and_report_are_404(stack: Any) -> None:
    for path in (NOBODY, f"{NOBODY}/files/report.json", "x"):
        assert stack.http.get(f"/v1/reports/{path}").status_code == 404


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("report nope", 1, "nope"),
        (f"report {NOBODY}", 1, "no job and no model"),
        ("report mnist --real nope", 1, "nope"),
        ("report mnist --images 0", 2, "images"),
        ("report", 2, "JOB|MODEL"),
    ],
)
def test_command_refuses_in_one_line(stack: Any, line: str, code: int, words: str) -> None:
    ran = stack.command(*line.split())
    assert ran.code == code
    assert words in ran.err
    assert "Traceback" not in ran.err
