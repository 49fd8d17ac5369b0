from __future__ import annotations

from typing import Any

import pytest

from datagen.client import waiting
from datagen.client.waiting import wait_for
from datagen.errors import Unavailable
from datagen.schemas import Export


def export(state: str) -> Export:
    return Export.model_construct(state=state)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_PAUSE", 0.0)


def reader(*answers: Any) -> Any:
    left = list(answers)

    def read() -> Export:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return export(answer)

    return read


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
def test_every_end_ends_the_wait_and_every_reading_is_reported(end: str) -> None:
    told: list[str] = []
    found = wait_for(reader("queued", "running", end), lambda one: told.append(one.state))
    assert (found.state, told) == (end, ["queued", "running", end])


def test_server_that_restarts_meanwhile_is_waited_for() -> None:
    assert wait_for(reader("running", Unavailable("away"), "succeeded")).state == "succeeded"


def test_server_that_stays_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", -1.0)
    with pytest.raises(Unavailable):
        wait_for(reader("running", Unavailable("away")))


def test_timeout_ends_the_wait() -> None:
    with pytest.raises(TimeoutError):
        wait_for(reader("running"), timeout=-1.0)


def test_bar_tells_state_and_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    states = iter(["running", "succeeded"])

    def read() -> Export:
        return Export.model_construct(state=next(states), images_written=1500, images_total=2000)

    assert wait_for(read, True).state == "succeeded"
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "succeeded" in shown.err
    assert "1,500 of 2,000" in shown.err
