"""What a campaign of generated requests takes for a failure."""

from __future__ import annotations

import json
from typing import Any

import pytest
from campaign.requests import Operation, Ref
from campaign.watch import Answer, Sent, Watch
from campaign.world import NOBODYS, Caller, World

JOB, FOREIGN = "01a2213f-5e32-7858-9619-28257ec1b2ae", "01a22141-38ab-73d8-a464-b95667701388"
RESPONSES = {"200": {}, "404": {}, "422": {}, "503": {}}
READ = Operation("read_job", "GET", "/v1/jobs/{job_id}", {"responses": RESPONSES})
CHANGE = Operation("cancel_job", "POST", "/v1/jobs/{job_id}/cancel", {"responses": RESPONSES})


class Judging:
    """A watch over two owners, and one request of the left one."""

    def __init__(self) -> None:
        self.left, self.right = World("left"), World("right")
        self.right.take("jobs", FOREIGN)
        self.right.markers.add("whsec_right")
        self.watch = Watch({"read_job": READ, "cancel_job": CHANGE}, [self.left, self.right])

    def __call__(
        self,
        status: int,
        body: Any,
        *,
        operation: Operation = READ,
        path: str = JOB,
        scope: str = "write",
        **more: Any,
    ) -> set[str]:
        caller = Caller(self.left, scope, {"Cookie": "datagen_session=a"})
        sent = Sent(operation, caller, f"http://h/v1/jobs/{path}", {}, b"", **more)
        kind = "application/problem+json" if status >= 400 else "application/json"
        answer = Answer(status, {"content-type": kind}, json.dumps(body).encode())
        self.watch.judge(sent, answer)
        return {reason for _, reason in self.watch.failures}


@pytest.fixture
def judging() -> Judging:
    return Judging()


def problem(status: int, detail: str = "It is away.") -> dict[str, Any]:
    return {"type": "urn:a", "title": "a", "status": status, "detail": detail}


def test_what_is_well_is_no_failure(judging: Judging) -> None:
    assert judging(200, {"id": JOB}) == set()
    assert judging(404, problem(404, f"There is no job {FOREIGN}."), path=FOREIGN) == set()
    assert judging.watch.cases == 2
    assert judging.watch.never_succeeded() == ["cancel_job"]


def test_503_is_no_failure_where_a_worker_makes_the_answer(judging: Judging) -> None:
    preview = Operation("preview_model", "POST", "/v1/models/a/preview", {"responses": RESPONSES})
    assert judging(503, problem(503), operation=preview) == set()
    assert judging(500, problem(500), operation=preview) == {"500"}


def test_a_server_error_is_a_failure_and_a_status_that_is_not_in_the_document(
    judging: Judging,
) -> None:
    assert judging(500, problem(500)) == {"500"}
    assert judging(503, problem(503)) == {"500", "503"}
    assert judging(507, problem(507)) == {"500", "503", "507"}
    assert "409 is not in the document" in judging(409, problem(409))


@pytest.mark.parametrize(
    "body", [{"of": FOREIGN}, {"of": FOREIGN.replace("-", "").upper()}, {"secret": "whsec_right"}]
)
def test_what_is_another_owners_is_a_failure_unless_it_was_sent(
    judging: Judging, body: dict[str, str]
) -> None:
    [reason] = judging(200, body)
    assert reason.startswith(("shows the id of one of right's jobs", "shows right's whsec"))


def test_what_was_shared_is_no_failure(judging: Judging) -> None:
    judging.right.shared.add(FOREIGN)
    assert judging(200, {"of": FOREIGN}) == set()


def test_reaching_changing_and_other_sites_are_failures(judging: Judging) -> None:
    assert judging(200, {}, path=FOREIGN, foreign_path=True) == {
        "another owner's thing was reached"
    }
    found = judging(200, {}, operation=CHANGE, scope="read", from_other_site=True)
    assert "a reader's key changed something" in found
    assert "a session's request from another site was taken" in found


def test_a_problem_of_several_lines_is_a_failure(judging: Judging) -> None:
    assert judging(422, problem(422, "It is 'a\nb'.")) == {"a problem whose detail is no sentence"}
    assert "a problem document without its parts" in judging(422, {"detail": "No."})


def test_what_ends_things_takes_those_that_were_made_meanwhile() -> None:
    world = World("left")
    world.take("jobs", JOB)
    world.keep()
    assert world.find(Ref("jobs", "own", 5)) == JOB
    assert world.find(Ref("jobs", "own", 5), ending=True) == NOBODYS
    world.take("jobs", FOREIGN)
    assert world.find(Ref("jobs", "own", 5), ending=True) == FOREIGN
