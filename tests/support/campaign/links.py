"""Goes along the document's links with Schemathesis: what one owner made is read, changed, removed.

A scenario has one caller; every fifth request of it comes from the other owner or from one who may
only read, with the ids that the scenario has by then.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis.checks import CheckFunction
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from campaign.requests import GOOD, Hole, Ref
from campaign.sending import Campaign
from campaign.watch import Answer, Sent
from campaign.world import NOBODYS, Caller

STEPS = 12
SCENARIOS = 6
CHECKS: list[CheckFunction] = [
    content_type_conformance, response_headers_conformance, response_schema_conformance,
    status_code_conformance,
]  # fmt: skip
_REQUEST_SECONDS = 60.0
# Bytes as they are: Schemathesis knows no media types of archives and tables.
schemathesis.serializer.alias(
    [
        "application/zip", "application/x-tar", "application/gzip",
        "application/vnd.apache.parquet",
    ],
    "application/octet-stream",
)  # fmt: skip


def run_links(campaign: Campaign, cases: int, number: int) -> None:
    """Run scenarios until so many more requests were judged by the campaign's watch."""
    machine, most = _machine(campaign), campaign.watch.cases + cases
    chosen = settings(
        max_examples=SCENARIOS, stateful_step_count=STEPS, database=None, deadline=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    for turn in count():
        # What a scenario can go on with depends on what the server answered, and Hypothesis ends a
        # run that is not the same every time; the next one has another seed.
        with suppress(FlakyStrategyDefinition):
            seed(number + turn)(machine).run(settings=chosen)
        if campaign.watch.cases >= most:
            return


def _machine(campaign: Campaign) -> Any:
    schema = schemathesis.openapi.from_dict(campaign.document)
    schema.config.update(base_url=campaign.url)
    schema.config.generation.update(with_security_parameters=False)
    turns, begun = count(), count()

    class Machine(schema.as_state_machine()):  # type: ignore[misc] # made while it runs
        def setup(self) -> None:
            makers = [one for one in campaign.callers if one.scope != "read"]
            self.caller = makers[next(begun) % len(makers)]
            self.others = [
                one
                for one in campaign.callers
                if one.world is not self.caller.world or one.scope == "read"
            ]
            self.sender = self.caller

        def before_call(self, case: Any) -> None:
            turn = next(turns)
            others = self.others
            self.sender = others[turn % len(others)] if turn % 5 == 4 else self.caller
            if case.path_parameters.get("key_id") in campaign.key_ids:
                case.path_parameters["key_id"] = NOBODYS
            # What Schemathesis makes up for a name is nobody's; two of three bodies name what is.
            if turn % 3 and "{" not in case.operation.path and case.method == "POST":
                _fill(campaign, self.sender, case, turn)

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            site = {"Sec-Fetch-Site": "same-origin"} if self.sender.is_session else {}
            return {"headers": {**self.sender.headers, **site}, "timeout": _REQUEST_SECONDS}

        def validate_response(self, response: Any, case: Any, *_: Any, **more: Any) -> None:
            _judged(campaign, self.sender, response, case)

    return Machine


def _fill(campaign: Campaign, caller: Caller, case: Any, turn: int) -> None:
    """A body that is good, in place of one that was made up."""
    name = case.operation.definition.raw["operationId"]
    files = campaign.requests.files
    if name in files and case.media_type != "application/json":
        case.body, case.query = files[name], {"name": f"linked-{turn % 7}"}
        return
    goods = [body for body in GOOD.get(name, ()) if not _has_hole(body)]
    if goods:
        case.body = _resolved(goods[turn % len(goods)], caller)


def _has_hole(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_hole, value.values()))
    return isinstance(value, Hole) or (isinstance(value, list) and any(map(_has_hole, value)))


def _resolved(value: Any, caller: Caller) -> Any:
    if isinstance(value, Ref):
        return caller.world.find(value)
    if isinstance(value, dict):
        return {key: _resolved(part, caller) for key, part in value.items()}
    return [_resolved(part, caller) for part in value] if isinstance(value, list) else value


def _judged(campaign: Campaign, caller: Caller, response: Any, case: Any) -> None:
    operation = campaign.watch.operations[case.operation.definition.raw["operationId"]]
    body = response.request.body or b""
    foreign = [one for one in campaign.worlds if one is not caller.world]
    sent = Sent(
        operation,
        caller,
        response.request.url,
        {**caller.headers, **{name: str(value) for name, value in (case.headers or {}).items()}},
        body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body,
        foreign_path=any(
            value in (other.markers - other.shared)
            for other in foreign
            for value in case.path_parameters.values()
        ),
        # Methods and types that the document does not have are tried as well.
        is_odd=case.method != operation.method or response.status_code in {405, 415},
    )
    headers = {name: values[0] for name, values in response.headers.items()}
    answer = Answer(response.status_code, headers, response.content)
    campaign.watch.judge(sent, answer)
    try:
        case.validate_response(response, checks=CHECKS)
    except FailureGroup as group:
        for failure in group.exceptions:
            campaign.watch.fail(sent, answer, f"{type(failure).__name__}: {failure.title}")
    except Failure as failure:
        campaign.watch.fail(sent, answer, f"{type(failure).__name__}: {failure.title}")
    campaign.settle(sent, answer)
