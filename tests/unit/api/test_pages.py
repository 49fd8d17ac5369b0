"""What the pages answer, without a browser."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from uuid import UUID

import pytest
from application import ANY_ID
from sqlalchemy import update
from starlette.testclient import TestClient

from datagen.api.app import create_app
from datagen.db.session import writing
from datagen.db.tables import Export, ExportJob, Job, Model
from datagen.model.config import TRAINING_COUNTS
from datagen.queue import MemoryQueue
from datagen.service import keys

PAGES = ("/", "/jobs", "/jobs/new", "/datasets", "/models", "/models/mnist", "/pipelines",
         "/pipelines/new", "/keys", "/about")  # fmt: skip
HTML = {"Accept": "text/html"}


@pytest.fixture
def api(settings, engine) -> Iterator[TestClient]:
    with TestClient(
        create_app(settings, queue=MemoryQueue()), base_url="http://127.0.0.1"
    ) as found:
        yield found


@pytest.fixture
def key(engine, api):
    """Makes keys."""

    def make(owner="me", scope="admin"):
        with writing(engine) as session:
            return keys.create_key(session, owner, [scope])

    return make


@pytest.fixture
def signed_in(api, key):
    """Signs the client in as the holder of a key."""

    def sign_in(plain=None, **form):
        api.cookies.clear()
        headers = {"Sec-Fetch-Site": "same-origin"}
        return api.post(
            "/sign-in", data={"key": plain or key(), **form}, headers=headers,
            follow_redirects=False,
        )  # fmt: skip

    return sign_in


def test_pages_have_their_policy_and_load_nothing_inline(api, signed_in):
    signed_in()
    for path in PAGES:
        answer = api.get(path, headers=HTML)
        assert answer.status_code == 200, (path, answer.text)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; img-src 'self' data: blob:;")
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", answer.text), path
        for source in re.findall(r'(?:src|href)="([^"]+)"', answer.text):
            assert source.startswith(("/", "#", "?", "data:")), (path, source)


def test_files_are_kept_under_their_digest_and_looked_up_without(api, signed_in):
    signed_in()
    style = re.search(r'href="(/static/style.css\?[0-9a-f]+)"', api.get("/", headers=HTML).text)
    assert style is not None
    assert "immutable" in api.get(style[1]).headers["cache-control"]
    plain = api.get("/static/core.js")
    assert (plain.headers["cache-control"], plain.status_code) == ("no-cache", 200)
    again = api.get("/static/core.js", headers={"If-None-Match": plain.headers["etag"]})
    assert again.status_code == 304
    assert api.get("/static/../templates/base.html").status_code == 404


def test_whoever_is_not_signed_in_is_asked_to_and_comes_back(api, signed_in):
    asked = api.get("/jobs?state=failed", headers=HTML, follow_redirects=False)
    assert (asked.status_code, asked.headers["location"]) == (
        303, "/sign-in?next=/jobs%3Fstate%3Dfailed"
    )  # fmt: skip
    answer = signed_in(next="/jobs?state=failed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?state=failed")
    assert re.search(r"HttpOnly; Max-Age=\d+; Path=/; SameSite=lax", answer.headers["set-cookie"])
    assert "Secure" not in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/\nx", "", "//["],
)
def test_signing_in_leads_nowhere_else(api, signed_in, target):
    assert signed_in(next=target).headers["location"] == "/"
    assert 'name="next" value="/"' in api.get("/sign-in", params={"next": target}).text


def test_error_that_nobody_foresaw_is_a_page(settings, engine, monkeypatch):
    def broken(*_args, **_more):
        raise ZeroDivisionError("the secret is 42")

    monkeypatch.setattr("datagen.api.pages.signing_in.render", broken)
    app = create_app(settings, queue=MemoryQueue())
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as api:
        page = api.get("/sign-in", headers=HTML)
    assert page.status_code == 500
    assert "An unexpected error" in page.text
    assert "42" not in page.text


@pytest.mark.parametrize("plain", ["dg_wrong", "x" * 3000, "\x00", "dg_" + "é" * 50])
def test_wrong_key_is_refused_in_the_form_and_not_quoted(api, signed_in, plain):
    answer = signed_in(plain)
    assert (answer.status_code, plain in answer.text) == (401, False)
    assert "not valid" in answer.text
    assert api.cookies.get("datagen_session") is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "http://127.0.0.1"}, 202),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
def test_session_changes_things_from_our_own_pages_alone(api, signed_in, headers, status):
    signed_in()
    answer = api.post("/v1/jobs", json={"model": "mnist", "all": 1}, headers=headers)
    assert answer.status_code == status, answer.text
    assert api.get("/v1/jobs").status_code == 200


def test_session_reaches_as_far_as_its_key(api, key, signed_in):
    signed_in(key(scope="read"))
    ours = {"Sec-Fetch-Site": "same-origin"}
    assert api.get("/jobs", headers=HTML).status_code == 200
    assert api.get("/keys", headers=HTML).status_code == 403
    answer = api.post("/v1/jobs", json={"model": "mnist", "all": 1}, headers=ours)
    assert answer.status_code == 403
    assert api.post("/v1/keys", json={"owner": "o"}, headers=ours).status_code == 403


def test_session_ends_when_its_key_is_revoked(api, key, signed_in):
    plain, admin = key(), key()
    signed_in(plain)
    assert api.get("/jobs", headers=HTML, follow_redirects=False).status_code == 200
    revoked = api.post(
        f"/v1/keys/{plain.split('_')[1]}/revoke", headers={"Authorization": f"Bearer {admin}"}
    )
    assert revoked.status_code == 200
    assert api.get("/jobs", headers=HTML, follow_redirects=False).status_code == 303
    assert api.get("/v1/jobs").status_code == 401


def test_pages_of_another_owners_things_are_404(api, key, signed_in):
    mine = {"Authorization": f"Bearer {key()}"}
    job = api.post("/v1/jobs", json={"model": "mnist", "all": 1}, headers=mine).json()
    recipe = {"name": "n", "source": {"dataset": "d"}, "model": "mnist", "plan": {"fill": 1}}
    api.post("/v1/pipelines", json=recipe, headers=mine)
    run = api.post("/v1/pipelines/n/runs", headers=mine).json()
    signed_in(key("stranger"))
    for path in (
        f"/jobs/{job['id']}", f"/jobs/{job['id']}/gallery", f"/jobs/{job['id']}/samples/0",
        "/pipelines/n", "/pipelines/new?edit=n", f"/runs/{run['id']}", "/datasets/d",
        "/datasets/d/images", f"/jobs/{UUID(ANY_ID)}",
    ):  # fmt: skip
        answer = api.get(path, headers=HTML)
        assert answer.status_code == 404, path
        assert "traceback" not in answer.text.lower()
    assert job["id"] not in api.get("/jobs", headers=HTML).text


def test_pages_name_the_classes_that_a_model_has_not_learnt(api, engine, signed_in):
    with writing(engine) as session:
        counts = {TRAINING_COUNTS: [9, 9, 9, 0, 9, 9, 9, 9, 9, 9]}
        session.execute(update(Model).where(Model.name == "mnist").values(metrics=counts))
    signed_in()
    here = {"Sec-Fetch-Site": "same-origin"}
    job = api.post("/v1/jobs", json={"model": "mnist", "all": 1}, headers=here).json()
    assert len(job["notes"]) == 1
    for path in ("/models/mnist", "/jobs/new?model=mnist", f"/jobs/{job['id']}"):
        assert job["notes"][0] in html.unescape(api.get(path, headers=HTML).text), path
    explorer = re.search(r"data-learnt='([^']+)'", api.get("/models/mnist", headers=HTML).text)
    assert explorer is not None
    assert json.loads(html.unescape(explorer[1])) == list("012456789")


def test_page_of_a_model_says_how_good_it_is_beside_real_images(api, engine, signed_in):
    metrics = {"tstr": 0.777, "trtr": 0.983, "held_out_images": 1234}
    with writing(engine) as session:
        session.execute(update(Model).where(Model.name == "mnist").values(metrics=metrics))
    signed_in()
    page = html.unescape(api.get("/models/mnist", headers=HTML).text)

    assert "Measured on 1,234 real images" in page
    assert re.search(r"TSTR</th><td class=\"n\">77.7%</td><td class=\"n\">98.3%</td>", page)


def test_page_of_a_model_shows_what_guessing_reaches_where_that_is_known(api, engine, signed_in):
    signed_in()
    for metrics, shown in (({"tstr": 0.777}, False), ({"tstr": 0.777, "chance": 0.1}, True)):
        with writing(engine) as session:
            session.execute(update(Model).where(Model.name == "mnist").values(metrics=metrics))
        page = api.get("/models/mnist", headers=HTML).text
        assert ("Guessing</th>" in page, '<td class="n">10.0%</td>' in page) == (shown, shown)


GATE = {"min_score": 0.6}
# A file that somebody else wrote may recommend anything.
RECOMMENDED = [
    None, [1], "x", 7, {}, {"samplers": "x"}, {"gates": {"prior": 5}}, {"gate": "x"},
    {"samplers": ["prior"], "strength": "x"}, {"samplers": ["prior"], "gates": None},
]  # fmt: skip


@pytest.mark.parametrize("recommended", RECOMMENDED)
def test_form_of_a_job_takes_an_unusable_recommendation_for_none(
    api, engine, signed_in, recommended
):
    with writing(engine) as session:
        metrics = {} if recommended is None else {"recommended": recommended}
        session.execute(update(Model).where(Model.name == "mnist").values(metrics=metrics))
    signed_in()
    answer = api.get("/jobs/new?model=mnist", headers=HTML)

    assert answer.status_code == 200
    assert "its training recommends no sampler" in html.unescape(answer.text)
    assert form_gates(answer.text)["above"]["recommended"] is None


def form_gates(page):
    found = re.search(r"data-gates='([^']+)'", page)
    assert found is not None
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("is_compared", [True, False])
def test_form_of_a_job_has_the_gate_of_each_sampler(api, engine, signed_in, is_compared):
    recommended = {
        "samplers": ["neighbour", "density", "prior"],
        "gate": GATE,
        "gates": {"density": {"min_score": 0.0}},
    }
    metrics = {
        "recommended": recommended,
        "density_components": 2,
        "tstr_by_sampler": {"density": 0.5} if is_compared else {},
    }
    with writing(engine) as session:
        row = update(Model).where(Model.name == "mnist")
        session.execute(row.values(metrics=metrics, index_key="models/index"))
    signed_in()
    page = html.unescape(api.get("/jobs/new?model=mnist", headers=HTML).text)

    gates = form_gates(page)
    # The model keeps no examples, so the next best sampler is taken, with its own gate.
    assert gates["above"]["recommended"] == gates["above"]["density"]
    assert gates["above"]["density"]["min_score"] == 0.0
    assert gates["above"]["neighbour"]["min_score"] == 0.6
    assert gates["zero"]["recommended"] is None
    assert gates["zero"]["neighbour"]["min_score"] == 0.6
    assert ("taught classifiers as much as those of any other" in page) == is_compared
    assert ("compared no samplers" in page) != is_compared


def test_page_of_a_model_shows_what_its_training_noted(api, engine, signed_in):
    signed_in()
    assert re.search(r'id="notes"[^>]* hidden', api.get("/models/mnist", headers=HTML).text)
    with writing(engine) as session:
        noted = {"notes": ["Expect <soft> images."]}
        session.execute(update(Model).where(Model.name == "mnist").values(metrics=noted))
    page = api.get("/models/mnist", headers=HTML).text

    assert "Expect &lt;soft&gt; images." in page
    assert not re.search(r'id="notes"[^>]* hidden', page)


def test_job_page_shows_what_its_exports_warn_of(api, engine, signed_in):
    signed_in()
    here = {"Sec-Fetch-Site": "same-origin"}
    job = api.post("/v1/jobs", json={"model": "mnist", "all": 1}, headers=here).json()
    warning = "The split test has no images of 'ant'."
    with writing(engine) as session:
        row = session.get_one(Job, UUID(job["id"]))
        export = Export(
            owner_id=row.owner_id, job_id=row.id, format="imagefolder", warnings=[warning],
            state="queued", images_total=1,
            created_at=row.created_at, available_at=row.created_at,
        )  # fmt: skip
        session.add(export)
        session.flush()
        session.add(ExportJob(export_id=export.id, position=0, job_id=row.id))
    assert warning in html.unescape(api.get(f"/jobs/{job['id']}", headers=HTML).text)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/jobs/nonsense", 404),
        ("/jobs?cursor=nonsense", 422),
        ("/jobs?state=odd", 422),
        (f"/jobs/{ANY_ID}/samples/-1", 404),
        ("/models?compare=mnist", 422),
        ("/datasets/%00", 404),
        ("/pipelines/%ED%A0%80", 404),
        ("/nowhere", 404),
    ],
)
def test_what_is_wrong_is_said_on_a_page_to_people_and_in_json_to_programs(
    api, signed_in, path, status
):
    signed_in()
    page = api.get(path, headers=HTML)
    assert page.status_code == status, page.text
    assert 'role="alert"' in page.text
    told = api.get(path)
    assert told.status_code == status
    assert told.headers["content-type"] == "application/problem+json"


def test_link_signs_in_as_whoever_asked_for_it(api, key):
    made = api.post("/v1/me/sign-in-links", headers={"Authorization": f"Bearer {key('ann')}"})
    assert made.status_code == 201
    path = made.json()["url"].removeprefix("http://127.0.0.1")
    answer = api.get(path, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "Sign out ann" in api.get("/", headers=HTML).text
    assert api.get(path, headers=HTML).status_code == 401


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"name: x", "source"),
        (b"a: *x", "alias"),
        (b"\xff", "UTF-8"),
        (b"name: n\nsource: {dataset: d}\nmodel: m\nplan: {fill: 1, add: 2}", "give one of"),
    ],
)
def test_recipe_is_checked_as_it_is_typed(api, signed_in, body, words):
    signed_in()
    ours = {"Sec-Fetch-Site": "same-origin"}
    told = api.post("/pipelines/check", content=body, headers=ours)
    assert (told.status_code, words in told.json()["problem"]) == (200, True), told.text
    good = b"name: n\nsource: {dataset: d}\nmodel: m\nplan: {fill: 1}\nschedule: {every: 1h}"
    found = api.post("/pipelines/check", content=good, headers=ours).json()
    assert (found["problem"], len(found["next"]), len(found["warnings"])) == (None, 5, 2)
    assert api.post("/pipelines/check", content=good).status_code == 403


def test_list_is_refreshed_at_the_page_that_is_looked_at(api, key, signed_in):
    mine = {"Authorization": f"Bearer {key()}"}
    for _ in range(51):
        api.post("/v1/jobs", json={"model": "mnist", "all": 1}, headers=mine)
    signed_in(key())
    first = api.get("/jobs?state=queued", headers=HTML).text
    assert 'hx-get="/jobs?state=queued"' in first
    older = re.search(r'rel="next" href="(\?state=queued&amp;cursor=[^"]+)"', first)
    assert older is not None
    second = api.get(f"/jobs{older[1].replace('&amp;', '&')}", headers=HTML).text
    assert f'hx-get="/jobs{older[1]}"' in second
