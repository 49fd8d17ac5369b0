"""Judges every answer of a campaign, counts them, and says at the end what was reached."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from campaign.requests import FOR_ADMINISTRATORS, Operation
from campaign.world import Caller, World, located

_UUID = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE
)
_SAFE = frozenset({"GET", "HEAD"})
# What changes nothing that is kept, so that a key with the scope `read` may ask for it.
FOR_READERS = frozenset({
    "preview_model", "decode_latents", "validate_pipeline", "dry_run_pipeline",
    "create_sign_in_link",
})  # fmt: skip
# Operations that a campaign need not see succeed, and why.
WITHOUT_SUCCESS = {
    "cancel_export": "an export of five images has ended before anybody could cancel it",
    "read_report_file": "a report takes minutes, and the campaign ends it at once",
}
# Operations that may be answered with 503, and why; no other server error is ever an answer.
MAY_BE_UNAVAILABLE = {
    "preview_model": "a worker makes the images at once, and the only one may be at other work",
    "decode_latents": "a worker makes the images at once, and the only one may be at other work",
}
SHOWN = 3000
KEPT = 3


@dataclass(frozen=True)
class Sent:
    """A request as it went out."""

    operation: Operation
    caller: Caller
    url: str
    headers: dict[str, str]
    body: bytes
    foreign_path: bool = False
    from_other_site: bool = False
    is_odd: bool = False

    def text(self) -> str:
        """All that the sender knew of."""
        return "\n".join((self.url, *self.headers.values(), self.body.decode("utf-8", "replace")))

    def __str__(self) -> str:
        body = self.body[:SHOWN].decode("utf-8", "backslashreplace")
        return f"{self.operation.method} {self.url} as {self.caller} {self.headers}\n{body}"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, where it is JSON; else None."""
        if not self.body or "json" not in self.headers.get("content-type", ""):
            return None
        return json.loads(self.body)


class Watch:
    """The memory of a campaign."""

    def __init__(self, operations: dict[str, Operation], worlds: list[World]) -> None:
        self.operations, self.worlds = operations, worlds
        self.statuses: dict[str, Counter[int]] = defaultdict(Counter)
        self.failures: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.failed: Counter[tuple[str, str]] = Counter()
        # What of others an owner has itself put into its own things.
        self._carried: dict[World, set[str]] = defaultdict(set)

    @property
    def cases(self) -> int:
        """Requests that were judged."""
        return sum(counts.total() for counts in self.statuses.values())

    def judge(self, sent: Sent, answer: Answer) -> None:
        """Note an answer, and whatever is wrong with it."""
        self.statuses[sent.operation.name][answer.status] += 1
        for reason in self._wrong(sent, answer):
            self.fail(sent, answer, reason)
        if answer.status // 100 == 2:
            self._learn(sent, answer)

    def fail(self, sent: Sent, answer: Answer, reason: str) -> None:
        """Note a failure; of each kind the first ones are kept whole."""
        kind = (sent.operation.name, reason)
        self.failed[kind] += 1
        shown = answer.body[:SHOWN].decode("utf-8", "backslashreplace")
        if len(self.failures[kind]) < KEPT:
            self.failures[kind].append(f"{reason}\n{sent}\n-> {answer.status} {shown}")

    def _wrong(self, sent: Sent, answer: Answer) -> list[str]:
        name, status, succeeded = sent.operation.name, answer.status, answer.status // 100 == 2
        documented = sent.operation.described["responses"]
        unsafe = sent.operation.method not in _SAFE
        found = []
        if status >= 500 and not (status == 503 and name in MAY_BE_UNAVAILABLE):
            found.append(f"{status}")
        elif str(status) not in documented and not sent.is_odd:
            found.append(f"{status} is not in the document")
        if status == 401:
            found.append("401 for a good key or session")
        if succeeded and unsafe and sent.caller.scope == "read" and name not in FOR_READERS:
            found.append("a reader's key changed something")
        if succeeded and name in FOR_ADMINISTRATORS and sent.caller.scope != "admin":
            found.append("an administrator's answer for another scope")
        if succeeded and unsafe and sent.from_other_site and sent.caller.is_session:
            found.append("a session's request from another site was taken")
        if (
            succeeded
            and sent.foreign_path
            and not (name in FOR_ADMINISTRATORS and sent.caller.scope == "admin")
        ):
            found.append("another owner's thing was reached")
        if status >= 400:
            found += _wrong_problem(answer)
        return found + [f"shows {marker}" for marker in self._leaked(sent, answer)]

    def _leaked(self, sent: Sent, answer: Answer) -> list[str]:
        told = answer.body.decode("utf-8", "replace") + " ".join(answer.headers.values())
        ids = {_plain(one) for one in _UUID.findall(told)}
        known, found = sent.text(), []
        said = {_plain(one) for one in _UUID.findall(known)} | self._carried[sent.caller.world]
        for other in self.worlds:
            if other is sent.caller.world:
                continue
            foreign = {_plain(one): one for one in other.markers if _UUID.fullmatch(one)}
            shared = {_plain(one) for one in other.shared}
            found += [_kind(other, foreign[one]) for one in (ids & set(foreign)) - said - shared]
            words = {one for one in other.markers if not _UUID.fullmatch(one)} - other.shared
            words |= other.keys
            if sent.operation.name in FOR_ADMINISTRATORS:
                # An administrator sees the keys of all owners, and metrics by model.
                words -= other.keys | {name for names in other.names.values() for name in names}
            found += [
                f"{other.name}'s {word[:12]}"
                for word in words
                if word in told
                and word not in known
                and word not in self._carried[sent.caller.world]
            ]
        return found

    def _learn(self, sent: Sent, answer: Answer) -> None:
        """Note what was made, what is shared from now on, and what an owner knew and kept."""
        world, known = sent.caller.world, sent.text()
        if sent.operation.method not in _SAFE:
            for other in self.worlds:
                if other is not world:
                    self._carried[world] |= {
                        _plain(one) if _UUID.fullmatch(one) else one
                        for one in other.markers | other.keys
                        if one in known
                    }
        if sent.operation.method == "DELETE" or sent.operation.name == "revoke_key":
            kind, thing = sent.url.partition("?")[0].rsplit("/v1/")[1].split("/")[:2]
            for one in self.worlds:
                one.drop(kind, thing)
        made = answer.json()
        place = located(answer.headers.get("location", ""))
        if place is not None and place[0] in {*world.ids, "keys"} and answer.status != 200:
            kind, thing = place
            if kind == "keys" and made["owner"] != world.name:
                return
            world.take(kind, thing)
        if sent.operation.name == "try_webhook":
            webhook = sent.url.split("/webhooks/")[1].partition("/")[0]
            world.webhook_of[world.take("deliveries", made["id"])] = webhook
        if sent.operation.name == "change_model" and made["visibility"] == "public":
            world.shared |= {made["id"], made["name"]}

    # What is said at the end.

    def never_succeeded(self) -> list[str]:
        """Operations that never answered with a success."""
        return sorted(
            name
            for name in self.operations
            if not any(status // 100 == 2 for status in self.statuses[name])
        )

    def summary(self) -> str:
        """Cases, operations, statuses by operation."""
        reached = sum(bool(counts) for counts in self.statuses.values())
        lines = [
            f"{self.cases:,} cases, {reached} of {len(self.operations)} operations",
            f"{len(self.failures)} kinds of failure",
            f"never 2xx: {', '.join(self.never_succeeded()) or 'none'}",
        ]
        for name in sorted(self.operations):
            counts = sorted(self.statuses[name].items())
            lines.append(f"{name:22}" + "  ".join(f"{status}:{count}" for status, count in counts))
        lines += [f"{count}x {name}: {reason}" for (name, reason), count in self.failed.items()]
        return "\n".join(lines)

    def failures_text(self) -> str:
        """The first failures of each kind, whole."""
        return "\n\n".join(shown for kind in self.failures.values() for shown in kind)


def _plain(identifier: str) -> str:
    return identifier.replace("-", "").lower()


def _kind(other: World, thing: str) -> str:
    kind = next((kind for kind, ids in other.ids.items() if thing in ids), "things")
    return f"the id of one of {other.name}'s {kind}"


def _wrong_problem(answer: Answer) -> list[str]:
    if answer.headers.get("content-type") != "application/problem+json":
        return ["an error that is no problem document"]
    problem = answer.json()
    if (
        not {"type", "title", "status", "detail"} <= set(problem)
        or problem["status"] != answer.status
    ):
        return ["a problem document without its parts"]
    if "Traceback" in problem["detail"] or "\n" in problem["detail"].strip():
        return ["a problem whose detail is no sentence"]
    return []
