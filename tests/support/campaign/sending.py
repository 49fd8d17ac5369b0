"""Sends what was drawn to a server, and keeps what it begins from running on."""

from __future__ import annotations

import json
from math import ceil
from typing import Any
from urllib.parse import quote

import httpx
from hypothesis import HealthCheck, Phase, given, seed, settings
from running import ended_of

from campaign.requests import Drawn, Operation, Ref, Requests
from campaign.watch import Answer, Sent, Watch
from campaign.world import NOBODYS, Caller, World, WorldBuilder

OWNERS = ("campaign-left", "campaign-right")
# What would keep a worker for minutes is ended as soon as it is there.
_ENDED_AT_ONCE = {"create_model": "models", "create_report": "reports", "run_pipeline": "runs"}
# By kind, the operation that makes one; and operations about what has to have ended.
_MAKERS = {
    "jobs": "create_job", "exports": "create_export", "datasets": "create_dataset",
    "models": "import_model", "reports": "create_report", "keys": "create_key",
    "pipelines": "apply_pipeline", "webhooks": "create_webhook",
}  # fmt: skip
_WAITING = frozenset({"create_export", "remove_job", "remove_export", "retry_job", "extend_job"})
_LARGEST_SIDE = 32


class Campaign:
    """Two owners on a server, the requests drawn for them, and the watch over the answers."""

    def __init__(self, url: str, key: str) -> None:
        builder = WorldBuilder(url, key)
        try:
            built = [builder.build(name) for name in OWNERS]
        finally:
            builder.close()
        self.url = url
        self.worlds = [world for world, _ in built]
        self.callers: list[Caller] = [caller for _, callers in built for caller in callers]
        # Of the callers themselves, who are not to lock themselves out.
        self.key_ids = {one for world in self.worlds for one in world.keys - set(world.ids["keys"])}
        self.http = httpx.Client(timeout=60.0, trust_env=False)
        self.document = self.http.get(f"{url}/openapi.json").json()
        self.requests = Requests(
            self.document, [caller.scope for caller in self.callers], builder.files
        )
        self.watch = Watch(self.requests.operations, self.worlds)

    def run(self, cases: int, number: int, *, rounds: int = 1) -> None:
        """Send at least so many drawn requests, the same ones for the same seed.

        Args:
            cases: how many, of all operations together.
            number: the seed.
            rounds: how often it goes through all operations; what one leaves behind, another finds.
        """
        names = list(self.requests.operations)
        shares = sum(self.requests.share(name, 100) for name in names) / 100
        usual = ceil(cases / rounds / shares)
        for turn in range(rounds):
            for name in names:
                self._send_best(name, waits=turn == 0)
                self._run_operation(name, self.requests.share(name, usual), number + turn)

    def _run_operation(self, name: str, cases: int, number: int) -> None:
        @seed(number)
        @settings(
            max_examples=cases, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(self.requests.strategy(name))
        def sends(drawn: Drawn) -> None:
            self.send(drawn)

        sends()

    def _send_best(self, name: str, *, waits: bool) -> None:
        """Send a request that succeeds: what it ends is made before, what it needs has ended.

        Once is enough to see it succeed: later rounds wait for no worker.
        """
        operation = self.requests.operations[name]
        maker = _MAKERS.get(operation.path.split("/")[2]) if operation.is_ending else None
        if maker is not None:
            self.send(self.requests.best(maker))
        best = self.requests.best(name)
        if waits and name in _WAITING:
            # An export's job is in its body.
            for ref in best.path.values() or [Ref("jobs", "own", 0)]:
                self._wait_for(ref, self.callers[best.caller])
        self.send(best)

    def _wait_for(self, ref: Ref, caller: Caller) -> None:
        thing = caller.world.find(ref, ending=ref.number < 0)
        if thing == NOBODYS:
            return
        with httpx.Client(base_url=self.url, headers=caller.headers, trust_env=False) as http:
            ended_of(http, f"/v1/{ref.kind}/{thing}", 300.0)

    def send(self, drawn: Drawn) -> None:
        """Send one, and judge the answer."""
        sent = self._resolved(drawn)
        answer = self._answered(sent)
        self.watch.judge(sent, answer)
        self.settle(sent, answer)

    def settle(self, sent: Sent, answer: Answer) -> None:
        """End at once what an operation has begun, where it would take minutes."""
        kind = _ENDED_AT_ONCE.get(sent.operation.name)
        if kind is None or answer.status != 202:
            return
        writer = next(
            one
            for one in self.callers
            if one.world is sent.caller.world and one.scope == "write" and not one.is_session
        )
        cancel = self.watch.operations[f"cancel_{kind[:-1]}"]
        url = f"{self.url}/v1/{kind}/{answer.json()['id']}/cancel"
        ending = Sent(cancel, writer, url, dict(writer.headers), b"")
        self.watch.judge(ending, self._answered(ending))

    def end(self) -> None:
        """Cancel what goes on, take the schedules away, and let go of the connections."""
        for caller in self.callers:
            if caller.scope == "write" and not caller.is_session:
                self._end_things(caller)
        self.http.close()

    def _end_things(self, caller: Caller) -> None:
        for kind in ("jobs", "exports", "models", "reports", "runs"):
            for thing in caller.world.ids[kind]:
                self.http.post(f"{self.url}/v1/{kind}/{thing}/cancel", headers=caller.headers)
        for thing in caller.world.ids["pipelines"]:
            self.http.delete(f"{self.url}/v1/pipelines/{thing}", headers=caller.headers)

    def _answered(self, sent: Sent) -> Answer:
        with self.http.stream(
            sent.operation.method, sent.url, headers=sent.headers, content=sent.body
        ) as response:
            parts = []
            for part in response.iter_raw():
                parts.append(part)
                # A stream of events goes on with its job; its beginning is enough.
                if sent.operation.name == "follow_job":
                    break
            return Answer(response.status_code, dict(response.headers), b"".join(parts))

    # From what was drawn to what is sent.

    def _resolved(self, drawn: Drawn) -> Sent:
        operation = self.requests.operations[drawn.operation]
        caller = self.callers[drawn.caller]
        other = next(one for one in self.worlds if one is not caller.world)
        ending = operation.is_ending

        def resolve(value: Any) -> Any:
            if isinstance(value, Ref):
                return _found(value, caller.world, other, ending=ending)
            if isinstance(value, dict):
                return {resolve(key): resolve(part) for key, part in value.items()}
            return [resolve(part) for part in value] if isinstance(value, list) else value

        path = {name: resolve(value) for name, value in drawn.path.items()}
        if path.get("delivery_id") in caller.world.webhook_of:
            path["webhook_id"] = caller.world.webhook_of[path["delivery_id"]]
        url = operation.path
        for name, value in path.items():
            url = url.replace(f"{{{name}}}", _quoted(value))
        query = [(name, resolve(value)) for name, value in drawn.query]
        if operation.name == "create_dataset":
            query = [(name, _bounded_size(name, value)) for name, value in query]
        asked = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in query)
        foreign = {one for one in other.markers | other.keys if one not in other.shared} & {
            value for value in path.values() if isinstance(value, str)
        }
        return Sent(
            operation,
            caller,
            self.url + url + (f"?{asked}" if asked else ""),
            _headers(drawn, caller),
            _body(operation, drawn, resolve(drawn.body)),
            foreign_path=bool(foreign),
            from_other_site=drawn.from_other_site,
            is_odd=any(not isinstance(value, Ref) for value in drawn.path.values()),
        )


def _found(ref: Ref, own: World, other: World, *, ending: bool) -> str:
    if ref.whose == "nobody":
        return NOBODYS
    return other.find(ref) if ref.whose == "other" else own.find(ref, ending=ending)


def _quoted(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def _bounded_size(name: str, value: Any) -> Any:
    """A side of images that makes no campaign of its own."""
    is_large = name == "size" and isinstance(value, int) and _LARGEST_SIDE < value <= 1024
    return _LARGEST_SIDE if is_large else value


def _headers(drawn: Drawn, caller: Caller) -> dict[str, str]:
    found = caller.headers | drawn.headers
    if caller.is_session:
        site = "cross-site" if drawn.from_other_site else "same-origin"
        found = found | {"Sec-Fetch-Site": site}
    return found | ({"Content-Type": drawn.media_type} if drawn.media_type else {})


def _body(operation: Operation, drawn: Drawn, body: Any) -> bytes:
    if drawn.raw is not None or drawn.media_type is None:
        return drawn.raw or b""
    if operation.name == "create_dataset" and isinstance(body, dict) and "size" in body:
        body = {**body, "size": _bounded_size("size", body["size"])}
    return json.dumps(body).encode()
