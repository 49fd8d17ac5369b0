from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.exc import DataError, OperationalError
from starlette.testclient import TestClient

from datagen.api.errors import install_error_answers, problem_response
from datagen.errors import Conflict, InvalidRequest, QueueUnavailable, Unauthorized
from datagen.schemas import JobCreate

RAISED: dict[str, Exception] = {
    "conflict": Conflict("The job has ended."),
    "field": InvalidRequest("'a' is wrong.", field="a"),
    "away": OperationalError("SELECT 1", {}, Exception("connection refused to postgres://me")),
    "full": OperationalError("INSERT", {}, Exception("database or disk is full")),
    "nul": DataError("INSERT", {}, Exception("cannot contain NUL")),
}


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    install_error_answers(app)

    @app.post("/jobs")
    def create(wanted: JobCreate) -> str:
        return wanted.model

    @app.get("/raise/{name}")
    def raising(name: str) -> None:
        raise RAISED[name]

    @app.get("/number/{sample_index}")
    def number(sample_index: int, limit: int = 1) -> int:
        return sample_index + limit

    return TestClient(app)


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:datagen:problem:")
    return body


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a\r\nb", r"'a\r\nb'"), ("\u2028", r"'\u2028'"), ("a" * 5000, "'" + "a" * 59 + "…")],
    ids=["lines", "separator", "long"],
)
def test_an_unknown_field_is_named_in_one_short_line(
    client: TestClient, name: str, shown: str
) -> None:
    found = problem(client.post("/jobs", json={"model": "m", "all": 1, name: 1}), 422)
    assert found["detail"] == f"{shown} is no field of this request; check its spelling."
    assert found["field"] == name


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ('{"model": "m", "all": 0}', "all", "0"),
        ('{"model": "m", "all": -3}', "all", "-3"),
        ('{"model": "m", "all": 1.5}', "all", "1.5"),
        ('{"model": "m", "all": true}', "all", "True"),
        ('{"model": "m", "all": 1e400}', "all", "inf"),
        ('{"model": "m", "all": 100000000000000000000000}', "all", "1000"),
        ('{"model": "m", "all": 1, "temperature": NaN}', "temperature", "nan"),
        ('{"model": "m", "all": 1, "temperature": -0.5}', "temperature", "-0.5"),
        ('{"model": "m", "all": 1, "temperature": Infinity}', "temperature", "inf"),
        ('{"model": "m", "all": 1, "seed": -1}', "seed", "-1"),
        ('{"model": "m", "all": 1, "seed": 9223372036854775808}', "seed", "9223372036854775808"),
        ('{"model": "m", "labels": {"3": 0}}', "labels.3", "0"),
        ('{"model": "m", "labels": {}}', "labels", "empty"),
        ('{"model": "m"}', "labels", "one of"),
        ('{"model": "m", "labels": {"3": 1}, "all": 1}', "labels", "one of"),
        ('{"all": 1}', "model", "missing"),
        ('{"model": "m", "all": 1, "tempature": 1}', "tempature", "'temperature' may be meant."),
        ('{"modle": "m", "all": 1}', "modle", "'model' may be meant."),
        ('{"model": "m", "all": 1, "zzzz": 1}', "zzzz", "check its spelling"),
        ('{"model": "\\ud800", "all": 1}', "model", "ud800"),
    ],
)
def test_wrong_value_is_422_with_field_and_value(
    client: TestClient, body: str, field: str, words: str
) -> None:
    found = problem(
        client.post("/jobs", content=body, headers={"Content-Type": "application/json"}), 422
    )
    assert found["field"] == field
    assert words in found["detail"]
    assert found["detail"].endswith((".", ".)"))


@pytest.mark.parametrize(
    "body",
    [b"", b"nope", b"[1]", b'"x"', b"null", b"\xff\xfe", b"[" * 100_000, b'{"all": ' + b"9" * 5000],
)
def test_body_that_is_no_json_object_is_400(client: TestClient, body: bytes) -> None:
    found = problem(
        client.post("/jobs", content=body, headers={"Content-Type": "application/json"}), 400
    )
    assert "JSON object" in found["detail"]


def test_json_of_another_content_type_is_400(client: TestClient) -> None:
    answer = client.post(
        "/jobs", content='{"model": "m", "all": 1}', headers={"Content-Type": "text/plain"}
    )
    assert "application/json" in problem(answer, 400)["detail"]


def test_long_values_are_quoted_in_part(client: TestClient) -> None:
    found = problem(client.post("/jobs", json={"model": "m", "all": "9" * 10_000}), 422)
    assert len(found["detail"]) < 300


def test_unknown_path_and_method_are_problems(client: TestClient) -> None:
    assert "/nowhere" in problem(client.get("/nowhere"), 404)["detail"]
    answer = client.delete("/jobs")
    assert problem(answer, 405)["type"] == "urn:datagen:problem:method-not-allowed"
    assert answer.headers["allow"] == "POST"


def test_bad_part_of_a_path_is_404_and_of_a_query_422(client: TestClient) -> None:
    assert "'x'" in problem(client.get("/number/x"), 404)["detail"]
    assert problem(client.get("/number/1?limit=x"), 422)["field"] == "limit"


def test_error_of_ours_keeps_status_type_and_field(client: TestClient) -> None:
    assert problem(client.get("/raise/conflict"), 409)["detail"] == "The job has ended."
    assert problem(client.get("/raise/field"), 422)["field"] == "a"


def test_database_that_is_away_is_503_without_its_address(client: TestClient) -> None:
    assert "postgres" not in problem(client.get("/raise/away"), 503)["detail"]


def test_full_disk_is_507_and_nul_422(client: TestClient) -> None:
    problem(client.get("/raise/full"), 507)
    problem(client.get("/raise/nul"), 422)


def test_headers_tell_how_to_go_on() -> None:
    assert problem_response(Unauthorized("No key.")).headers["www-authenticate"] == "Bearer"
    assert problem_response(QueueUnavailable("Away.")).headers["retry-after"] == "2"


def test_key_in_a_detail_is_struck_out() -> None:
    key = "dg_abc_" + "s" * 43
    assert key.encode() not in problem_response(Conflict(f"The key {key} is odd.")).body
