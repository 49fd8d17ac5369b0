from __future__ import annotations

import hashlib
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("stack")


def test_job_ends_with_exact_counts_per_label(job: Any) -> None:
    assert job["images_requested"] == job["images_stored"] == 50
    counts = {label["label"]: (label["requested"], label["stored"]) for label in job["labels"]}
    assert counts == {"3": (30, 30), "8": (20, 20)}
    assert job["model"]["name"] == "mnist"
    assert len(job["model"]["digest"]) == 64
    assert job["started_at"] <= job["ended_at"]
    assert job["error"] is None
    for label in job["labels"]:
        assert 0.5 < label["mean_score"] <= 1
        assert 0.5 < label["agreement"] <= 1


def test_samples_come_in_pages_in_the_order_of_their_index(stack: Any, job: Any) -> None:
    path, seen, cursor = f"/v1/jobs/{job['id']}/samples", [], None
    while True:
        query = {"limit": 20} | ({} if cursor is None else {"cursor": cursor})
        page = stack.http.get(path, params=query).json()
        seen += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [sample["index"] for sample in seen] == list(range(50))
    assert [sample["label"] for sample in seen] == ["3"] * 30 + ["8"] * 20


def test_samples_of_one_label(stack: Any, job: Any) -> None:
    path = f"/v1/jobs/{job['id']}/samples"
    found = stack.http.get(path, params={"label": "8", "limit": 1000}).json()["items"]
    assert [sample["index"] for sample in found] == list(range(30, 50))
    unknown = stack.http.get(path, params={"label": "x"})
    assert unknown.status_code == 422
    assert unknown.json()["type"] == "urn:datagen:problem:unknown-label"


def test_image_is_a_png_with_the_digest_of_its_sample(stack: Any, job: Any) -> None:
    path = f"/v1/jobs/{job['id']}/samples/31"
    sample, image = stack.http.get(path).json(), stack.http.get(path + "/image")
    assert image.headers["content-type"] == "image/png"
    assert image.content.startswith(b"\x89PNG\r\n\x1a\n")
    assert hashlib.sha256(image.content).hexdigest() == sample["digest"]
    assert image.headers["etag"] == f'"{sample["digest"]}"'


def test_sample_that_is_not_there_is_404(stack: Any, job: Any) -> None:
    for index in ("50", "-1", "x", "1" * 30):
        assert stack.http.get(f"/v1/jobs/{job['id']}/samples/{index}").status_code == 404
        assert stack.http.get(f"/v1/jobs/{job['id']}/samples/{index}/image").status_code == 404


def test_same_request_gives_the_same_images(stack: Any, job: Any) -> None:
    again = stack.created("/v1/jobs", {"model": "mnist", "labels": {"8": 20, "3": 30}, "seed": 7})
    stack.ended(f"/v1/jobs/{again['id']}")

    def digests(job_id: str) -> list[str]:
        answer = stack.http.get(f"/v1/jobs/{job_id}/samples", params={"limit": 1000})
        return [sample["digest"] for sample in answer.json()["items"]]

    assert digests(again["id"]) == digests(job["id"])


def test_samples_of_another_sampler_are_others_and_say_so(stack: Any, job: Any) -> None:
    body = {"model": "mnist", "labels": {"3": 30, "8": 20}, "seed": 7, "sampler": "prior"}
    made = stack.created("/v1/jobs", body)
    ended = stack.ended(f"/v1/jobs/{made['id']}")
    assert (ended["state"], ended["sampler"]) == ("succeeded", "prior"), ended

    path = "/v1/jobs/{}/samples?limit=50"
    others = stack.http.get(path.format(made["id"])).json()["items"]
    ours = stack.http.get(path.format(job["id"])).json()["items"]
    assert {sample["sampler"] for sample in others} == {"prior"}
    assert all(sample["sources"] == [] for sample in others)
    assert not {one["digest"] for one in others} & {one["digest"] for one in ours}


def test_listing_is_newest_first_and_by_state(stack: Any, job: Any) -> None:
    found = stack.http.get("/v1/jobs", params={"limit": 1000}).json()["items"]
    assert [one["id"] for one in found] == sorted((one["id"] for one in found), reverse=True)
    assert job["id"] in {one["id"] for one in found}
    running = stack.http.get("/v1/jobs", params={"state": "failed"}).json()["items"]
    assert running == []


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"model": "nope", "all": 1}, 404, None),
        ({"model": "mnist", "labels": {"11": 1}}, 422, "labels"),
        ({"model": "mnist", "labels": {}}, 422, "labels"),
        ({"model": "mnist", "labels": {"3": 0}}, 422, "labels.3"),
        ({"model": "mnist", "labels": {"3": 1.5}}, 422, "labels.3"),
        ({"model": "mnist", "all": -1}, 422, "all"),
        ({"model": "mnist", "all": 1_000_000_000}, 422, "labels"),
        ({"model": "mnist", "all": 1, "temperature": -1}, 422, "temperature"),
        ({"model": "mnist", "all": 1, "seed": 2**63}, 422, "seed"),
        ({"model": "mnist", "all": 1, "exports": ["nope"]}, 422, "format"),
        ({"model": "m\u0000", "all": 1}, 422, "model"),
    ],
)
def test_bad_request_is_refused_and_leaves_nothing(
    stack: Any, body: Any, status: int, field: str | None
) -> None:
    before = stack.http.get("/v1/jobs", params={"limit": 1000}).json()["items"]
    answer = stack.http.post("/v1/jobs", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().get("field") == field
    assert stack.http.get("/v1/jobs", params={"limit": 1000}).json()["items"] == before


def test_unknown_label_names_the_known_ones(stack: Any) -> None:
    answer = stack.http.post("/v1/jobs", json={"model": "mnist", "labels": {"11": 1}})
    assert "0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in answer.json()["detail"]


def test_running_job_is_cancelled_and_keeps_what_it_has(stack: Any) -> None:
    made = stack.created("/v1/jobs", {"model": "mnist", "all": 200_000})
    assert (
        stack.http.post("/v1/exports", json={"job": made["id"], "format": "parquet"}).status_code
        == 409
    )
    cancelled = stack.http.post(f"/v1/jobs/{made['id']}/cancel")
    assert cancelled.status_code == 200
    assert cancelled.json()["state"] == "cancelled"
    later = stack.http.get(f"/v1/jobs/{made['id']}").json()
    assert later["state"] == "cancelled"
    assert later["images_stored"] < 2_000_000


def test_small_job_does_not_wait_behind_the_batches_of_a_large_one(stack: Any) -> None:
    # All its batches are cut and sent before the small job comes.
    large = stack.created("/v1/jobs", {"model": "mnist", "labels": {"1": 120_000}, "seed": 1})
    small = stack.created("/v1/jobs", {"model": "mnist", "labels": {"2": 10}, "seed": 2})

    assert stack.ended(f"/v1/jobs/{small['id']}")["state"] == "succeeded"
    meanwhile = stack.http.post(f"/v1/jobs/{large['id']}/cancel").json()
    assert meanwhile["state"] == "cancelled"
    assert meanwhile["images_stored"] < 60_000


def test_ended_job_cannot_be_cancelled(stack: Any, job: Any) -> None:
    answer = stack.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert answer.status_code == 409
    assert "succeeded" in answer.json()["detail"]


def _done(stack: Any, **wanted: Any) -> Any:
    asked = stack.created("/v1/jobs", {"model": "mnist"} | wanted)
    return stack.ended(f"/v1/jobs/{asked['id']}")


def _samples(stack: Any, job: Any) -> Any:
    return stack.http.get(f"/v1/jobs/{job['id']}/samples", params={"limit": 1000}).json()["items"]


def test_gate_draws_again_what_the_judge_doubts(stack: Any) -> None:
    wanted = {"labels": {"3": 60, "8": 60}, "seed": 4}
    strict, free = (_done(stack, **wanted, gate=gate) for gate in ({"min_score": 0.9}, None))
    assert strict["gate"] == {
        "min_score": 0.9,
        "max_attempts": 20,
        "reject_copies": True,
        "reject_duplicates": True,
        "on_shortfall": "fail",
    }
    assert [job["state"] for job in (strict, free)] == ["succeeded"] * 2
    assert [job["images_stored"] for job in (strict, free)] == [120] * 2
    gated, plain = _samples(stack, strict), _samples(stack, free)
    assert min(sample["score"] for sample in gated) >= 0.9
    # What passes at the first attempt is the same image as without a gate.
    for mine, other in zip(gated, plain, strict=True):
        assert (mine["attempt"] == 0) == (other["score"] >= 0.9)
        assert (mine["digest"] == other["digest"]) == (mine["attempt"] == 0)
    refused = sum(label["rejected"]["score"] for label in strict["labels"])
    assert refused == sum(sample["attempt"] for sample in gated) > 0
    nothing = {"score": 0, "copy": 0, "duplicate": 0}
    assert [label["rejected"] for label in free["labels"]] == [nothing] * 2


def test_job_that_names_no_sampler_and_gate_gets_those_that_the_model_recommends(
    stack: Any,
) -> None:
    found = stack.http.get("/v1/models", params={"limit": 100}).json()["items"]
    model = next(one for one in found if one["name"] == "mnist")
    recommended = model["metrics"]["recommended"]
    job = _done(stack, labels={"3": 20}, seed=4)
    # The model is everybody's, and the images that `neighbour` starts from are not.
    assert recommended["samplers"] == ["neighbour", "density", "prior"]
    assert job["sampler"] == "density"
    assert job["gate"] == recommended["gate"]
    assert min(sample["score"] for sample in _samples(stack, job)) >= job["gate"]["min_score"]
    plain = _done(stack, labels={"3": 20}, seed=4, sampler="prior", gate=None)
    assert (plain["sampler"], plain["gate"]) == ("prior", None)


@pytest.mark.parametrize("end", ["fail", "keep"])
def test_gate_that_nothing_passes_ends_the_job_and_says_why(stack: Any, end: str) -> None:
    gate = {"min_score": 1.0, "max_attempts": 2, "on_shortfall": end}
    # Latents so far out are no digits, and of none of them is the judge certain.
    far = {"sampler": "prior", "temperature": 10.0, "seed": 3}
    job = _done(stack, labels={"3": 4}, gate=gate, **far)
    assert (job["state"], job["images_stored"], job["images_short"]) == ("failed", 0, 4)
    assert "label '3': 8 by score" in job["error"]


def test_job_keeps_what_passes_where_it_is_to(stack: Any) -> None:
    gate = {"min_score": 0.93, "max_attempts": 1, "on_shortfall": "keep"}
    job = _done(stack, labels={"8": 100}, seed=2, gate=gate, exports=["parquet"])
    assert job["state"] == "succeeded"
    assert 0 < job["images_stored"] < 100
    assert job["images_stored"] + job["images_short"] == 100
    samples = _samples(stack, job)
    assert len(samples) == job["images_stored"]
    last = samples[-1]
    assert last["index"] > len(samples)
    png = stack.http.get(f"/v1/jobs/{job['id']}/samples/{last['index']}/image").content
    assert hashlib.sha256(png).hexdigest() == last["digest"]
    export = stack.ended(f"/v1/exports/{job['exports'][0]}")
    assert (export["state"], export["images_written"]) == ("succeeded", job["images_stored"])


@pytest.mark.parametrize(
    ("gate", "field"),
    [
        ({"min_score": 1.5}, "gate.min_score"),
        ({"min_score": "high"}, "gate.min_score"),
        ({"max_attempts": 0}, "gate.max_attempts"),
        ({"max_attempts": 10**9}, "gate.max_attempts"),
        ({"max_attempts": 2.5}, "gate.max_attempts"),
        ({"on_shortfall": "shrug"}, "gate.on_shortfall"),
        ({"reject_copies": "perhaps"}, "gate.reject_copies"),
        ({"min_scores": 0.5}, "gate.min_scores"),
        ("strict", "gate"),
    ],
)
def test_gate_that_makes_no_sense_is_422_naming_the_field(
    stack: Any, gate: Any, field: str
) -> None:
    refused = stack.http.post("/v1/jobs", json={"model": "mnist", "all": 1, "gate": gate})
    assert refused.status_code == 422
    assert refused.json()["field"] == field
