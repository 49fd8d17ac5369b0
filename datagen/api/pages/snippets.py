"""Code that creates a job again: the same request for curl, Python and the command line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from datagen.schemas import JobCreate, JobExtend

# The options of `datagen generate` that take a field of a request as it is.
OPTIONS = {
    "model": "--model",
    "count": "--count",
    "all": "--per-label",
    "seed": "--seed",
    "sampler": "--sampler",
    "temperature": "--temperature",
    "truncation": "--truncation",
    "strength": "--strength",
    "priority": "--priority",
    "retention_days": "--retention-days",
    "webhook": "--webhook",
}
GATE_OPTIONS = {
    "min_score": "--min-score",
    "max_attempts": "--max-attempts",
    "reject_copies": "--reject-copies",
    "reject_duplicates": "--reject-duplicates",
    "on_shortfall": "--on-shortfall",
}
_ID_OF = "python3 -c 'import json, sys; print(json.load(sys.stdin)[\"id\"])'"


def snippets(base: str, wanted: JobCreate, more: Sequence[JobExtend]) -> dict[str, str]:
    """The request, with what extended it, for curl, Python and the command line.

    Args:
        base: the server's URL, as far as `/v1`.
        wanted: with nothing in it that was not said.
        more: extensions, in their order.
    """
    body = wanted.model_dump(mode="json", exclude_unset=True)
    others = [one.model_dump(mode="json", exclude_unset=True) for one in more]
    return {
        "curl": _curl(base, body, others),
        "Python": _python(body, others),
        "Command line": _command(body, others),
    }


def _curl(base: str, body: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    def sent(url: str, one: Mapping[str, Any]) -> str:
        return (
            f'curl {url} -H "Authorization: Bearer $DATAGEN_API_KEY" \\\n'
            f"  -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(one))}"
        )

    first = sent(shlex.quote(f"{base}/v1/jobs"), body)
    if not others:
        return first
    jobs = shlex.quote(f"{base}/v1/jobs/")
    extended = "".join(f"\n{sent(f'{jobs}$job/extend', one)}" for one in others)
    return f"job=$({first} \\\n  | {_ID_OF}){extended}"


def _python(body: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    def given(one: Mapping[str, Any]) -> str:
        named = {"per_label" if name == "all" else name: value for name, value in one.items()}
        first = [repr(named.pop(name)) for name in ("model", "labels") if name in named]
        return ", ".join([*first, *(f"{name}={value!r}" for name, value in named.items())])

    extended = "".join(f"    job = job.extend({given(one)})\n" for one in others)
    return (
        "from datagen import Client\n\nwith Client() as dg:\n"
        f"    job = dg.jobs.create({given(body)})\n{extended}    job.wait(progress=True)"
    )


def _command(body: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    words = ["datagen", "generate"]
    for name, value in body.items():
        words += _option(name, value)
    if not others:
        return " ".join(words)
    extended = "".join(
        f'\ndatagen job extend "$job" {" ".join(_option(name, value))} --detach'
        for one in others
        for name, value in one.items()
    )
    return f"job=$({' '.join(words)} --detach --json \\\n  | {_ID_OF}){extended}"


def _option(name: str, value: Any) -> list[str]:
    """The words that say a field of a request."""
    if name == "labels":
        return _said("--labels", _pairs(value))
    if name == "gate":
        return _gate(value)
    if name == "metadata":
        return _metadata(value)
    if name == "exports":
        return [word for one in value for word in _said("--format", one)]
    if name == "balance":
        words = _said("--balance", value["dataset"])
        return words if value.get("to") is None else [*words, *_said("--to", value["to"])]
    return _said(OPTIONS[name], value)


def _said(option: str, value: Any) -> list[str]:
    text = str(value)
    # A value that begins with a dash stands in one word with its option, lest it be taken for one.
    return [shlex.quote(f"{option}={text}")] if text[:1] == "-" else [option, shlex.quote(text)]


def _gate(gate: Mapping[str, Any] | None) -> list[str]:
    if gate is None:
        return ["--no-gate"]
    words = ["--gate"]
    for name, value in gate.items():
        option = GATE_OPTIONS[name]
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option.removeprefix('--')}")
        else:
            words += _said(option, value)
    return words


def _pairs(labels: Mapping[str, int]) -> str:
    """`3=500,8=200`, or JSON where a label has what separates pairs."""
    plain = ",".join(f"{label}={count}" for label, count in labels.items())
    apart = all(label == label.strip() and label and "," not in label for label in labels)
    return plain if apart and plain[:1] != "{" else json.dumps(labels, ensure_ascii=False)


def _metadata(noted: Mapping[str, Any]) -> list[str]:
    """NAME=VALUE of each, or JSON where that cannot say it."""
    plain = [f"{name}={value}" for name, value in noted.items()]
    if all(
        name and "=" not in name and isinstance(value, str) and name[0] != "{"
        for name, value in noted.items()
    ):
        return [word for pair in plain for word in _said("--metadata", pair)]
    return _said("--metadata", json.dumps(noted, ensure_ascii=False))
