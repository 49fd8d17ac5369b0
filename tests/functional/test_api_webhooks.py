"""A real receiver that fails twice, signatures that it checks, and what is told of all of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from receivers import Receiver, receiver
from running import Service, wait_until
from sqlalchemy import update

from datagen import Client
from datagen.db.session import writing
from datagen.db.tables import Webhook
from datagen.errors import Conflict, InvalidRequest, NotFound
from datagen.service import claims

__all__ = ["receiver"]


@pytest.fixture(scope="module")
def service(services: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory) -> Service:
    home = tmp_path_factory.mktemp("webhooks") / "home"
    service = services(home, workers=1, webhooks_private="true", tick_seconds=0.5)
    service.start()
    return service


@pytest.fixture
def dg(service: Service) -> Iterator[Client]:
    client = Client(service.url, (service.home / "api-key").read_text().strip())
    yield client
    for hook in client.webhooks.list().items:
        client.webhooks.remove(hook.id)
    client.close()


def signed(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """As a receiver checks it (standardwebhooks.com), with nothing of ours."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    return f"v1,{wanted}" in headers["webhook-signature"].split(" ")


def test_end_of_a_job_is_posted_and_signed(dg: Client, receiver: Receiver) -> None:
    hook = dg.webhooks.create(receiver.url, ["job.succeeded", "export.succeeded"])
    job = dg.jobs.create("mnist", {"3": 2}, gate=None, exports=["npz"])
    wait_until(lambda: len(receiver.posted) == 2, 60)
    assert sorted(receiver.events()) == ["export.succeeded", "job.succeeded"]
    for headers, body in receiver.posted:
        assert signed(hook.secret, headers, body)
        assert not signed("whsec_" + base64.b64encode(bytes(32)).decode(), headers, body)
        assert headers["content-type"] == "application/json"
    told = next(json.loads(body) for _, body in receiver.posted if b'"job.succeeded"' in body)
    assert told["data"]["id"] == str(job.id)
    assert told["data"]["images_stored"] == 2

    def done() -> Any:
        page = dg.webhooks.deliveries(hook.id)
        return page if {one.state for one in page.items} == {"succeeded"} else None

    page = wait_until(done, 30)
    assert {one.status for one in page.items} == {204}


def test_other_events_are_not_posted(dg: Client, receiver: Receiver) -> None:
    dg.webhooks.create(receiver.url, ["job.cancelled"])
    dg.jobs.wait(dg.jobs.create("mnist", {"3": 1}, gate=None).id)
    dg.jobs.cancel(dg.jobs.create("mnist", {"3": 100_000}, gate=None).id)
    wait_until(lambda: receiver.posted, 60)
    assert receiver.events() == ["job.cancelled"]


def test_named_webhook_is_notified_of_the_jobs_that_name_it_alone(
    dg: Client, receiver: Receiver
) -> None:
    hook = dg.webhooks.create(receiver.url, named=True)
    other = dg.jobs.create("mnist", {"3": 1}, gate=None, exports=["npz"])
    job = dg.jobs.create("mnist", {"3": 1}, gate=None, exports=["npz"], webhook=hook.id)
    assert (job.webhook, other.webhook) == (hook.id, None)
    dg.exports.wait(dg.jobs.wait(other.id).exports[0])
    wait_until(lambda: len(receiver.posted) == 2, 60)
    told = {json.loads(body)["data"]["id"] for _, body in receiver.posted}
    assert told == {str(job.id), str(dg.jobs.get(job.id).exports[0])}
    with pytest.raises(NotFound, match="no webhook"):
        dg.jobs.create("mnist", {"3": 1}, webhook="00000000-0000-7000-8000-000000000000")


def test_receiver_that_fails_is_tried_again_and_each_attempt_is_recorded(
    service: Service, dg: Client, receiver: Receiver
) -> None:
    receiver.answers = [500, 503]
    hook = dg.webhooks.create(receiver.url)
    sent = dg.webhooks.test(hook.id)
    assert (sent.event, sent.state) == ("ping", "queued")

    def deliveries() -> Any:
        return dg.webhooks.deliveries(hook.id).items[0]

    failed = wait_until(
        lambda: one if (one := deliveries()).attempt == 1 and one.error else None, 60
    )
    assert failed.error.startswith("answered with 500")
    assert failed.next_attempt_at is not None

    def resent() -> bool:
        try:
            dg.webhooks.resend(hook.id, sent.id)
        except Conflict:  # the backoff was over first, and it is being sent
            return False
        return True

    # Nobody waits for the backoff here: it is sent again by hand, twice.
    for posted in (2, 3):
        wait_until(resent, 60)
        wait_until(lambda posted=posted: len(receiver.posted) >= posted, 60)
        wait_until(lambda: deliveries().state != "running", 60)
    ended = wait_until(lambda: one if (one := deliveries()).state == "succeeded" else None, 60)
    assert (ended.status, ended.error) == (204, None)
    assert len({headers["webhook-id"] for headers, _ in receiver.posted}) == 1


def test_waits_between_attempts_cover_a_day() -> None:
    assert list(claims.DELIVERY_WAITS) == sorted(claims.DELIVERY_WAITS)
    assert 23 * 3600 < sum(claims.DELIVERY_WAITS) < 30 * 3600


def test_former_secret_signs_beside_the_new_one(dg: Client, receiver: Receiver) -> None:
    hook = dg.webhooks.create(receiver.url)
    fresh = dg.webhooks.rotate(hook.id)
    assert fresh.secret != hook.secret
    dg.webhooks.test(hook.id)
    wait_until(lambda: receiver.posted, 60)
    headers, body = receiver.posted[0]
    assert signed(hook.secret, headers, body)
    assert signed(fresh.secret, headers, body)


def test_secret_is_shown_once(service: Service, dg: Client, receiver: Receiver) -> None:
    hook = dg.webhooks.create(receiver.url)
    key = (service.home / "api-key").read_text().strip()
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=service.url, headers=headers, trust_env=False) as http:
        for path in ("/v1/webhooks", f"/v1/webhooks/{hook.id}"):
            assert "whsec_" not in http.get(path).text
        for body in (
            {"url": "ftp://h/"}, {"url": "http://"}, {"url": "x"}, {"url": "http://h:f/"},
            {"url": "http://h:99999/"}, {"url": "http://[::1/"}, {"url": "http://me:pw@h/"},
            {"url": "http://[fe80::1%25eth0]/"},
            {"url": receiver.url, "events": []},
            {"url": receiver.url, "events": ["job.started"]}, {"url": receiver.url, "secret": "x"},
        ):  # fmt: skip
            assert http.post("/v1/webhooks", json=body).status_code == 422, body


def test_address_inside_is_refused_unless_the_operator_allows_it(
    services: Callable[..., Service], tmp_path: Path, receiver: Receiver
) -> None:
    service = services(tmp_path / "home", workers=1, tick_seconds=0.5)
    service.start()
    port = receiver.port
    with pytest.raises(InvalidRequest, match="not public") as caught:
        service.client.webhooks.create(f"http://localhost:{port}/hook")
    assert caught.value.field == "url"
    assert "127.0.0.1" not in caught.value.detail
    # A name may come to mean an address inside only after it was kept.
    hook = service.client.webhooks.create("https://8.8.8.8/hook")
    with writing(service.engine) as session:
        session.execute(update(Webhook).values(url=f"http://localhost:{port}/hook"))
    service.client.webhooks.test(hook.id)
    wait_until(lambda: service.client.webhooks.deliveries(hook.id).items[0].error, 60)
    error = str(service.client.webhooks.deliveries(hook.id).items[0].error)
    assert "not public" in error
    assert "127.0.0.1" not in error
    assert receiver.posted == []
    service.stop()
