"""A few images at once, from real workers, over HTTP, by the client and by command."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from redis import Redis

from datagen import Client
from datagen.queue import RUN_PREVIEW, CeleryQueue, Message

pytestmark = pytest.mark.xdist_group("stack")


def preview(stack: Any, **wanted: Any) -> Any:
    answer = stack.http.post("/v1/models/mnist/preview", json=wanted)
    assert answer.status_code == 200, answer.text
    return answer.json()


def pngs(found: Any) -> list[bytes]:
    return [base64.b64decode(image["png"]) for image in found["images"]]


def test_preview_is_how_a_job_of_the_same_seed_begins(stack: Any) -> None:
    labels = {"3": 4, "8": 3}
    found = preview(stack, labels=labels, seed=12)
    assert [image["label"] for image in found["images"]] == ["3"] * 4 + ["8"] * 3
    assert all(0 <= image["score"] <= 1 for image in found["images"])
    assert (found["model"]["name"], found["seed"]) == ("mnist", 12)
    body = {"model": "mnist", "labels": labels, "seed": 12, "gate": None}
    job = stack.created("/v1/jobs", body)
    stack.ended(f"/v1/jobs/{job['id']}")
    samples = stack.http.get(f"/v1/jobs/{job['id']}/samples").json()["items"]
    assert [hashlib.sha256(png).hexdigest() for png in pngs(found)] == [
        sample["digest"] for sample in samples
    ]
    assert preview(stack, labels=labels, seed=12) == found


def test_preview_stores_nothing_and_leaves_nothing_in_the_broker(stack: Any) -> None:
    stack.settle()
    before = stack.http.get("/v1/me").json()["images"]["used"]
    files = sorted((stack.home / "storage").rglob("*"))
    preview(stack, all=6, seed=3)
    assert stack.http.get("/v1/me").json()["images"]["used"] == before
    assert sorted((stack.home / "storage").rglob("*")) == files
    with broker(stack) as redis:
        assert redis.keys("datagen:answer:*") == []


def broker(stack: Any) -> Redis:
    return Redis(unix_socket_path=str(next(stack.home.rglob("*.sock"))))


def test_sheet_is_a_picture_with_a_row_for_each_label(stack: Any) -> None:
    body = {"all": 6, "format": "sheet", "scale": 1}
    answer = stack.http.post("/v1/models/mnist/preview", json=body)
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.height > 10 * 28
        assert image.width > 6 * 28


def test_gate_leaves_out_what_does_not_pass(stack: Any) -> None:
    gate = {"min_score": 0.999, "max_attempts": 1, "reject_copies": False}
    strict = preview(stack, labels={"8": 64}, seed=1, gate=gate)
    assert 0 < len(strict["images"]) < 64
    assert min(image["score"] for image in strict["images"]) >= 0.999


def test_latents_are_decoded_with_their_labels(stack: Any) -> None:
    model = stack.http.get("/v1/models/mnist").json()
    size = model["config"]["latent_dim"]
    body = {"latents": [[0.0] * size, [0.0] * size, [1.0] * size], "labels": ["3", "8", "3"]}
    answer = stack.http.post("/v1/models/mnist/decode", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [image["label"] for image in found["images"]] == ["3", "8", "3"]
    assert (found["seed"], found["sampler"]) == (None, None)
    assert len(set(pngs(found))) == 3
    short = stack.http.post("/v1/models/mnist/decode", json={"latents": [[0.0]], "labels": ["3"]})
    assert short.status_code == 422
    assert f"has {size} latent dimensions" in short.json()["detail"]
    none = stack.http.post("/v1/models/mnist/decode", json={"latents": [[0.0] * size]})
    assert none.json()["field"] == "labels"


def test_places_along_the_principal_directions_are_decoded(stack: Any) -> None:
    def decoded(**body: Any) -> Any:
        return stack.http.post("/v1/models/mnist/decode", json=body)

    labels = ["3", "8", "3", "3"]
    places = [[0.0], [0.0, 0.0], [0.0, 0.0, 0.0], [2.5]]
    found = decoded(coordinates=places, labels=labels)
    assert found.status_code == 200, found.text
    middle, other, same, along = pngs(found.json())
    assert middle == same
    assert len({middle, other, along}) == 3
    many = decoded(coordinates=[[0.0] * 1000], labels=["3"])
    assert (many.status_code, many.json()["field"]) == (422, "coordinates.0")
    both = decoded(coordinates=[[0.0]], latents=[[0.0]], labels=["3"])
    assert both.status_code == decoded(labels=["3"]).status_code == 422
    assert "Give one of 'latents' and 'coordinates'" in both.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"all": 7}, 422, "all"),
        ({"labels": {"3": 65}}, 422, "labels.3"),
        ({"labels": {"x": 1}}, 422, "labels"),
        ({"count": 3}, 422, "count"),
        ({}, 422, "labels"),
        ({"all": 1, "format": "gif"}, 422, "format"),
        ({"all": 1, "temperature": -1}, 422, "temperature"),
        ({"all": 1, "sampler": "neighbour"}, 403, None),
    ],
)
def test_preview_that_cannot_be_made_says_why(
    stack: Any, body: Any, status: int, field: str | None
) -> None:
    answer = stack.http.post("/v1/models/mnist/preview", json=body)
    assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text
    assert stack.http.post("/v1/models/nosuch/preview", json={"all": 1}).status_code == 404


def test_forged_message_is_refused_and_the_worker_lives(stack: Any) -> None:
    url = "redis+socket://" + str(next(stack.home.rglob("*.sock")))
    queue = CeleryQueue(url)
    forged = {"model_id": "../../etc", "reply_to": "datagen:answer:" + "0" * 32, "labels": [0]}
    elsewhere = forged | {"reply_to": "celery", "model_id": "0" * 8 + "-0000-7000-8000-" + "0" * 12}
    queue.send([Message(RUN_PREVIEW, told, urgent=True) for told in (forged, elsewhere, {})])
    assert len(preview(stack, labels={"3": 1})["images"]) == 1


def test_client_previews_and_a_notebook_shows_it(stack: Any) -> None:
    with Client(stack.url, stack.key) as dg:
        pictures = dg.models.preview("mnist", {"3": 2}, seed=4)
        assert len(pictures) == 2
        assert pictures._repr_html_().count("<img ") == 2
        assert pictures.sheet().startswith(b"\x89PNG")
        assert len(dg.models.preview("mnist")) == 60
        size = dg.models.get("mnist").config["latent_dim"]
        middle = dg.models.decode("mnist", np.zeros((1, size)), ["7"])
        assert [image.label for image in middle] == ["7"]


def test_command_writes_a_picture(stack: Any, tmp_path: Path) -> None:
    out = tmp_path / "digits.png"
    ran = stack.command("model", "preview", "mnist", "--labels", "3=4,8=4", "--out", str(out))
    assert ran.code == 0, ran.err
    assert str(out) in ran.out
    with Image.open(out) as image:
        assert image.size[0] > 4 * 56
    told = stack.command("model", "preview", "--labels", "3=2", "--json").json
    assert [image["label"] for image in told["images"]] == ["3", "3"]
    assert stack.command("model", "preview", "--labels", "3").code == 2
    assert json.dumps(told)
