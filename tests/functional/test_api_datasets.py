from __future__ import annotations

import gzip
import io
import zipfile
from typing import Any

import numpy as np
import pytest
from layouts import tar_of
from PIL import Image

pytestmark = pytest.mark.xdist_group("stack")


def png(value: int, size: int = 8) -> bytes:
    data = io.BytesIO()
    Image.new("L", (size, size), value).save(data, "PNG")
    return data.getvalue()


GOOD = {
    f"train/{label}/{number}.png": png(40 * number + 10 * index)
    for index, label in enumerate(("cat", "dog"))
    for number in range(4)
}


def upload(stack: Any, name: str, body: bytes) -> Any:
    return stack.http.post("/v1/datasets", params={"name": name}, content=body)


def test_dry_run_answers_with_what_the_body_holds_and_registers_nothing(stack: Any) -> None:
    answer = stack.http.post("/v1/datasets", params={"dry_run": True}, content=tar_of(GOOD))

    assert answer.status_code == 200, answer.text
    assert answer.json()["class_names"] == ["cat", "dog"]
    assert answer.json()["counts"] == {"train": [4, 4]}
    assert answer.json()["report"]["source"] == "imagefolder"
    named = stack.http.post(
        "/v1/datasets?dry_run=true", json={"name": "never-registered", "source": "sample:mnist"}
    )
    assert (named.status_code, named.json()["image_shape"]) == (200, [1, 28, 28])
    assert stack.http.get("/v1/datasets/never-registered").status_code == 404
    unnamed = stack.http.post("/v1/datasets", content=tar_of(GOOD))
    assert unnamed.status_code == 422
    wrong = stack.http.post(
        "/v1/datasets",
        params={"name": "x", "zip_encoding": "klingon"},
        content=tar_of(GOOD),
    )
    assert (wrong.status_code, "'klingon'" in wrong.text) == (422, True)


def test_upload_registers_and_repeats_into_the_same_version(stack: Any) -> None:
    first = upload(stack, "pets", tar_of(GOOD))
    assert first.status_code == 201, first.text
    made = first.json()
    assert made["class_names"] == ["cat", "dog"]
    assert made["image_shape"] == [1, 8, 8]
    assert made["counts"] == {"train": [4, 4]}
    assert first.headers["location"] == f"/v1/datasets/{made['id']}"
    assert upload(stack, "pets", tar_of(GOOD)).json()["id"] == made["id"]
    changed = upload(stack, "pets", tar_of(GOOD | {"train/dog/9.png": png(255)})).json()
    assert changed["version"] == made["version"] + 1
    assert stack.http.get("/v1/datasets/pets").json() == changed
    assert stack.http.get(f"/v1/datasets/pets@{made['version']}").json() == made
    listed = stack.http.get("/v1/datasets").json()["items"]
    assert {made["id"], changed["id"]} <= {one["id"] for one in listed}


@pytest.mark.parametrize(
    "body",
    [
        b"not a tar",
        tar_of(GOOD)[:700],
        tar_of(GOOD | {"train/dog/../../../evil.png": png(1)}),
        tar_of(GOOD | {"/etc/evil.png": png(1)}),
        tar_of(GOOD | {"train/dog/bad.png": png(1)[:40]}),
        tar_of(GOOD | {"train/dog/big.png": png(1, size=9)}),
        tar_of({}),
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
    assert stack.http.post("/v1/datasets", content=tar_of(GOOD)).json()["field"] == "name"
    assert upload(stack, "No Name", tar_of(GOOD)).json()["field"] == "name"
    assert upload(stack, "empty", b"").status_code == 400


def test_training_on_an_unknown_dataset_is_404(stack: Any) -> None:
    answer = stack.http.post("/v1/models", json={"name": "m", "dataset": "nope"})
    assert answer.status_code == 404


def zipped(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def arrays(**given: Any) -> bytes:
    data = io.BytesIO()
    np.savez(data, **given)
    return data.getvalue()


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip", "npz"])
def test_the_same_images_are_the_same_dataset_whatever_they_come_as(stack: Any, kind: str) -> None:
    pixels = np.full((8, 8, 8), 0, dtype=np.uint8)
    labels = []
    for position, (name, content) in enumerate(sorted(GOOD.items())):
        with Image.open(io.BytesIO(content)) as image:
            pixels[position] = np.asarray(image)
        labels.append(name.split("/")[1])
    body = {
        "tar": lambda: tar_of(GOOD),
        "tar.gz": lambda: gzip.compress(tar_of(GOOD)),
        "zip": lambda: zipped(GOOD),
        "npz": lambda: arrays(x_train=pixels, y_train=np.array(labels)),
    }[kind]()
    made = upload(stack, f"as-{kind}", body)
    assert made.status_code == 201, made.text
    plain = upload(stack, "as-tar", tar_of(GOOD)).json()
    assert made.json()["digest"] == plain["digest"]
    assert made.json()["report"]["source"] == ("npz" if kind == "npz" else "imagefolder")


def test_query_says_how_to_read(stack: Any) -> None:
    mixed = {f"cat/{n}.png": png(n, size=6 + n) for n in range(10)} | {"cat/bad.png": b"bad"}
    plain = upload(stack, "mixed", tar_of(mixed))
    assert plain.status_code == 422
    wanted = {"size": 6, "pad": True, "on_error": "skip", "split": "train=0.5,test=0.5", "seed": 3}
    made = stack.http.post(
        "/v1/datasets", params={"name": "mixed", **wanted}, content=tar_of(mixed)
    )
    assert made.status_code == 201, made.text
    assert made.json()["counts"] == {"train": [5], "test": [5]}
    assert made.json()["image_shape"] == [1, 6, 6]
    report = made.json()["report"]
    assert [one["name"] for one in report["skipped"]] == ["cat/bad.png"]
    assert any("filled up at the edges" in note for note in report["notes"])
    for wrong, field in (({"size": 0}, "size"), ({"pad": True}, "pad"), ({"split": "x"}, "split"),
                         ({"on_error": "shrug"}, "on_error"), ({"seed": -1}, "seed")):  # fmt: skip
        answer = stack.http.post(
            "/v1/datasets", params={"name": "mixed", **wrong}, content=tar_of(mixed)
        )
        assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text


def test_sample_is_registered_by_name_and_its_balance_is_a_picture(stack: Any) -> None:
    body = {"name": "digits", "source": "sample:mnist"}
    made = stack.http.post("/v1/datasets", json=body)
    assert made.status_code == 201, made.text
    assert sum(map(sum, made.json()["counts"].values())) == 7000
    picture = stack.http.get("/v1/datasets/digits/balance.png")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(picture.content)) as image:
        assert image.width > 300
    assert stack.http.get("/v1/datasets/digits/balance.svg").content.startswith(b"<?xml")
    assert stack.http.get("/v1/datasets/digits/balance.pdf").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x"}, "source"),
        ({"name": "x", "source": "file:///etc/passwd"}, "source"),
        ({"name": "x", "source": "http://169.254.169.254/x"}, "source"),
        ({"name": "x", "source": "../../etc"}, "source"),
        ({"name": "X Y", "source": "sample:mnist"}, "name"),
        ({"name": "x", "source": "sample:mnist", "colour": 1}, "colour"),
        ({"name": "x", "source": "sample:mnist", "split": {"train": 2.0}}, "split"),
    ],
)
def test_sources_that_the_server_may_not_read_are_refused(
    stack: Any, body: dict[str, Any], field: str
) -> None:
    answer = stack.http.post("/v1/datasets", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text


def test_json_that_is_none_is_refused(stack: Any) -> None:
    headers = {"content-type": "application/json"}
    for body in (b"{", b"[]", b"nan", b'{"name": ' + b"[" * 5000):
        answer = stack.http.post("/v1/datasets", content=body, headers=headers)
        assert answer.status_code in {400, 422}, answer.text
    answer = stack.http.post("/v1/datasets", content=b" " * 2_000_000, headers=headers)
    assert answer.status_code == 413


def test_removed_dataset_is_gone(stack: Any) -> None:
    upload(stack, "short-lived", tar_of(GOOD))
    assert stack.http.delete("/v1/datasets/short-lived").status_code == 204
    assert stack.http.get("/v1/datasets/short-lived").status_code == 404
    assert stack.http.delete("/v1/datasets/short-lived").status_code == 404
    for number in range(2):
        upload(stack, "many", tar_of(GOOD | {"train/dog/9.png": png(250 + number)}))
    answer = stack.http.delete("/v1/datasets/many")
    assert answer.status_code == 409
    assert "many@1, many@2" in answer.json()["detail"]
    assert stack.http.delete("/v1/datasets/many@1").status_code == 204
