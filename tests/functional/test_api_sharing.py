"""A shared model as another owner sees it: nothing names what it was trained on."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from layouts import tar_of
from PIL import Image
from running import ended_of, wait_until

pytestmark = pytest.mark.xdist_group("stack")

DATASET, FILE = "confidential-set", "confidential-file"
PRIVATE_AGAIN = (
    "The model shared-one@1 is private again, and makes no more images for other owners; use "
    "another model, or ask its owner to share it."
)
# Formats that take small pictures of any size.
FORMATS = ("parquet", "imagefolder", "webdataset", "npz", "tfrecord", "fiftyone")


def png(rng: np.random.Generator) -> bytes:
    data = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def shared(stack: Any) -> Any:
    """A model that is trained on a dataset of its owner's alone, and shared; with that dataset."""
    rng = np.random.default_rng(1)
    files = {
        f"train/{label}/{FILE}-{number}.png": png(rng)
        for label in ("crack", "fine")
        for number in range(12)
    }
    dataset = stack.http.post(
        "/v1/datasets", params={"name": DATASET}, content=tar_of(files)
    ).json()
    options = {"preset": "small", "epochs": 1, "judge_epochs": 1, "refine": False}
    wanted = {"name": "shared-one", "dataset": DATASET, "options": options}
    model = stack.created("/v1/models", wanted)
    assert stack.ended(f"/v1/models/{model['id']}")["state"] == "succeeded"
    stack.http.patch("/v1/models/shared-one", json={"visibility": "public"}).raise_for_status()
    yield {"model": model["id"], "dataset": dataset}
    stack.http.patch("/v1/models/shared-one", json={"visibility": "private"}).raise_for_status()


@pytest.fixture(scope="module")
def stranger(stack: Any) -> Iterator[httpx.Client]:
    """A client of another owner."""
    wanted = {"owner": "stranger", "scopes": ["read", "write"]}
    key = stack.http.post("/v1/keys", json=wanted).json()["key"]
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60, trust_env=False) as http:
        yield http


def unpacked(body: bytes) -> Iterator[bytes]:
    """A body, and what lies in it if it is a zip."""
    yield body
    if body[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(body)) as files:
            for name in files.namelist():
                yield name.encode()
                yield from unpacked(files.read(name))


def test_no_answer_about_a_shared_model_names_the_dataset_of_its_owner(
    stack: Any, shared: Any, stranger: httpx.Client
) -> None:
    dataset = shared["dataset"]
    secrets = {DATASET, FILE, dataset["id"], dataset["digest"]}
    answers: list[tuple[str, bytes]] = []

    def ask(method: str, path: str, **more: Any) -> httpx.Response:
        answer = stranger.request(method, path, **more)
        assert answer.status_code < 500, (path, answer.text)
        answers.append((f"{method} {path}", answer.content))
        answers.append((f"{method} {path}: headers", str(answer.headers).encode()))
        return answer

    model = f"/v1/models/{shared['model']}"
    assert ask("GET", model).json()["name"] == "shared-one"
    ask("GET", "/v1/models", params={"limit": 200})
    both = {"model": [shared["model"], "mnist"]}
    assert ask("GET", "/v1/models/compare", params=both).status_code == 200
    assert ask("GET", f"{model}/export").status_code == 200
    assert ask("POST", f"{model}/preview", json={"all": 2}).status_code == 200
    assert ask("POST", f"{model}/figures", json={}).status_code == 202
    assert ended_of(stranger, f"{model}/figures")["state"] == "succeeded"
    names = ask("GET", f"{model}/figures").json()["names"]
    assert {"loss", "samples"} <= set(names)
    for name in names:
        for kind in ("png", "svg", "json"):
            assert ask("GET", f"{model}/figures/{name}.{kind}").status_code == 200, name
    assert ask("GET", f"{model}/figures/reconstructions.png").status_code == 404
    job = ask("POST", "/v1/jobs", json={"model": shared["model"], "all": 4, "gate": None}).json()
    ended = ended_of(stranger, f"/v1/jobs/{job['id']}")
    assert ended["state"] == "succeeded", ended
    for part in ("", "/samples", "/samples/0", "/events"):
        assert ask("GET", f"/v1/jobs/{job['id']}{part}").status_code == 200, part
    for kind in FORMATS:
        export = ask("POST", "/v1/exports", json={"job": job["id"], "format": kind}).json()
        assert ended_of(stranger, f"/v1/exports/{export['id']}")["state"] == "succeeded"
        assert ask("GET", f"/v1/exports/{export['id']}/download").content[:2] == b"PK"
    ask("GET", "/v1/exports")
    named = {"name": "own", "dataset": dataset["id"]}
    assert stranger.post("/v1/models", json=named).status_code == 404
    assert stranger.get(f"/v1/datasets/{dataset['id']}").status_code == 404

    for place, body in answers:
        for part in unpacked(body):
            assert not [secret for secret in secrets if secret.encode() in part], place


def test_model_that_is_private_again_makes_nothing_more_for_others(
    stack: Any, shared: Any, stranger: httpx.Client
) -> None:
    def create(count: int) -> str:
        wanted = {"model": shared["model"], "all": count, "gate": None}
        answer = stranger.post("/v1/jobs", json=wanted)
        assert answer.status_code == 202, answer.text
        return f"/v1/jobs/{answer.json()['id']}"

    whole = create(2)
    assert ended_of(stranger, whole)["state"] == "succeeded"
    going = create(500_000)
    wait_until(lambda: stranger.get(going).json()["images_stored"])

    stack.http.patch("/v1/models/shared-one", json={"visibility": "private"}).raise_for_status()

    try:
        ended = ended_of(stranger, going)
        assert (ended["state"], ended["error"]) == ("failed", PRIVATE_AGAIN)
        refused = (
            stranger.post(f"{whole}/extend", json={"all": 1}),
            stranger.post(f"{going}/retry"),
        )
        for answer in refused:
            assert (answer.status_code, answer.json()["detail"]) == (403, PRIVATE_AGAIN)
        assert stranger.get(whole).json()["state"] == "succeeded"
        assert stranger.get(f"{whole}/samples").status_code == 200
    finally:
        stack.http.patch("/v1/models/shared-one", json={"visibility": "public"}).raise_for_status()
