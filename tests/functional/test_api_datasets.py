from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from PIL import Image

pytestmark = pytest.mark.xdist_group("stack")


def png(value: int, size: int = 8) -> bytes:
    data = io.BytesIO()
    Image.new("L", (size, size), value).save(data, "PNG")
    return data.getvalue()


def tar(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


GOOD = {
    f"train/{label}/{number}.png": png(40 * number + 10 * index)
    for index, label in enumerate(("cat", "dog"))
    for number in range(4)
}


def upload(stack: Any, name: str, body: bytes) -> Any:
    return stack.http.post("/v1/datasets", params={"name": name}, content=body)


def test_upload_registers_and_repeats_into_the_same_version(stack: Any) -> None:
    first = upload(stack, "pets", tar(GOOD))
    assert first.status_code == 201, first.text
    made = first.json()
    assert made["class_names"] == ["cat", "dog"]
    assert made["image_shape"] == [1, 8, 8]
    assert made["counts"] == {"train": [4, 4]}
    assert first.headers["location"] == f"/v1/datasets/{made['id']}"
    assert upload(stack, "pets", tar(GOOD)).json()["id"] == made["id"]
    changed = upload(stack, "pets", tar(GOOD | {"train/dog/9.png": png(255)})).json()
    assert changed["version"] == made["version"] + 1
    assert stack.http.get("/v1/datasets/pets").json() == changed
    assert stack.http.get(f"/v1/datasets/pets@{made['version']}").json() == made
    listed = stack.http.get("/v1/datasets").json()["items"]
    assert {made["id"], changed["id"]} <= {one["id"] for one in listed}


@pytest.mark.parametrize(
    "body",
    [
        b"not a tar",
        tar(GOOD)[:700],
        tar(GOOD | {"train/dog/../../../evil.png": png(1)}),
        tar(GOOD | {"/etc/evil.png": png(1)}),
        tar(GOOD | {"train/dog/bad.png": png(1)[:40]}),
        tar(GOOD | {"train/dog/big.png": png(1, size=9)}),
        tar({}),
    ],
    ids=["no-tar", "truncated", "climbs", "absolute", "broken-image", "other-size", "empty"],
)
def test_bad_upload_is_422_and_registers_nothing(stack: Any, body: bytes) -> None:
    before = stack.http.get("/v1/datasets").json()
    answer = upload(stack, "bad", body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert stack.http.get("/v1/datasets").json() == before


def test_upload_without_name_or_body_is_refused(stack: Any) -> None:
    assert stack.http.post("/v1/datasets", content=tar(GOOD)).json()["field"] == "name"
    assert upload(stack, "No Name", tar(GOOD)).json()["field"] == "name"
    assert upload(stack, "empty", b"").status_code == 400


def test_training_on_an_unknown_dataset_is_404(stack: Any) -> None:
    answer = stack.http.post("/v1/models", json={"name": "m", "dataset": "nope"})
    assert answer.status_code == 404
