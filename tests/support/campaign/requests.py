"""Requests drawn from the OpenAPI document: mostly of the right form, with odd values in places.

A drawn request names what it is about by `Ref`: the seventh job of the other owner, say. Which id
that is turns out when it is sent, so that what is drawn depends on nothing but the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from hypothesis import strategies as st

from campaign.values import any_moment, any_number, any_text, anything

Draw = Callable[[Any], Any]
Whose = Literal["own", "other", "nobody"]
KINDS = (
    "jobs",
    "datasets",
    "models",
    "exports",
    "reports",
    "pipelines",
    "runs",
    "webhooks",
    "keys",
)
_NAMED_IN_BODIES = {
    "job": "jobs", "jobs": "jobs", "dataset": "datasets", "real": "datasets", "model": "models",
    "webhook": "webhooks",
}  # fmt: skip
_KINDS = {"delivery_id": "deliveries"}
_WORDS = {
    "format": ("parquet", "npz", "imagefolder", "webdataset", "coco", "none"),
    "source": ("sample:mnist", "sample:none", "file:///etc", "s3://bucket/none", "http://[", ""),
    "license": ("mit", "cc-by-4.0", "none"),
    "timezone": ("UTC", "Europe/Berlin", "America/New_York", "Nowhere", "../UTC", "utc"),
    "cron": ("0 2 * * *", "*/5 * * * *", "0 0 30 2 *", "0 0 29 2 1", "60 * * * *", "* * * * * *"),
    "every": (300, "6h", "1s", "366d", "0s", "1e3h", "infd"),
    "owner": ("campaign-third", "campaign-fourth"),
    "url": ("https://receiver.invalid/hook", "http://0/", "http://[::]/", "https://h:99999/"),
    "model": ("mnist", "mnist@1", "none"),
    "path": ("manifest.json", "card.md", "..", "a/b"),
    "expires_in": (1, 3600, 60),
    "labels": ("0", "7", "ten"),
    "zip_encoding": ("cp437", "utf-8", "rot13", "idna", "zlib"),
    "split": ("train=0.8,validation=0.1,test=0.1", "train=1", "train=nan", "train=1e999", "a=b"),
    "cursor": ("e30", "bnVsbA", "W10", "dHJ1ZQ", "WzFd", "eyJpZCI6dHJ1ZX0", "MTIz"),
    "name": ("campaign-a", "campaign-b", "samples.png", "report.json", "loss.svg"),
    "kind": ("png", "svg", "gif"),
    "index": ("0", "1", "4", "5"),
    "last-event-id": ("0", "1", "99999999999999999999", "x"),
    "state": ("succeeded", "failed"),
    "limit": (1, 2, 50),
}  # fmt: skip


@dataclass(frozen=True)
class Ref:
    """Something that an owner has, by id or by name."""

    kind: str
    whose: Whose
    number: int
    by_name: bool = False


@dataclass(frozen=True)
class Hole:
    """A place in a good body that is always filled with something odd."""

    values: Any


@dataclass
class Drawn:
    """A request before anybody knows what its references are."""

    operation: str
    caller: int
    path: dict[str, Any] = field(default_factory=dict)
    query: list[tuple[str, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    raw: bytes | None = None
    media_type: str | None = None
    from_other_site: bool = False


@dataclass(frozen=True)
class Operation:
    """One of the document's operations."""

    name: str
    method: str
    path: str
    described: dict[str, Any]

    def parameters(self, place: str) -> list[dict[str, Any]]:
        """Its parameters in the path, the query or the headers."""
        return [one for one in self.described.get("parameters", []) if one["in"] == place]

    @property
    def is_ending(self) -> bool:
        """Whether it takes away or changes what later requests are about."""
        return self.method in {"DELETE", "PATCH"} or self.path.endswith(
            ("/cancel", "/revoke", "/keys/{key_id}/rotate")
        )

    @cached_property
    def content(self) -> dict[str, Any]:
        """Its bodies by media type."""
        found: dict[str, Any] = self.described.get("requestBody", {}).get("content", {})
        return found


def operations_of(document: dict[str, Any]) -> dict[str, Operation]:
    """All operations of a document, by name."""
    return {
        described["operationId"]: Operation(
            described["operationId"], method.upper(), path, described
        )
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    }


FOR_ADMINISTRATORS = frozenset({
    "list_keys", "read_key", "create_key", "revoke_key", "rotate_key", "read_metrics",
})  # fmt: skip
# Bodies that are good, beside the document's examples: these name what there is.
_OWN = {kind: Ref(kind, "own", 0) for kind in KINDS}
_RECIPE = {
    "name": "campaign-a",
    "source": {"dataset": Ref("datasets", "own", 0, by_name=True)},
    "model": "mnist",
    "plan": {"add": 1},
    "deliver": [{"format": "npz", "name": "{pipeline}/{date}"}],
}
GOOD: dict[str, list[Any]] = {
    "create_job": [
        {"model": "mnist", "labels": {"3": 2}, "seed": 1},
        {"model": _OWN["models"], "all": 1, "exports": ["npz"], "metadata": {"a": 1}},
        {"model": "mnist", "balance": {"dataset": _OWN["datasets"]}},
        {"model": "mnist", "all": 1, "metadata": {"a": Hole(anything)}},
        {"model": "mnist", "all": 1, "metadata": {"a": Hole(any_text)}},
        {
            "model": "mnist",
            "labels": {"3": 1},
            "metadata": Hole(st.dictionaries(any_text, anything)),
        },
    ],
    "extend_job": [{"labels": {"3": 1}}, {"all": 1}],
    "create_export": [
        {"job": _OWN["jobs"], "format": "parquet"},
        {"dataset": _OWN["datasets"], "format": "npz"},
        {"dataset": _OWN["datasets"], "format": "parquet", "license": Hole(any_text)},
        {"job": _OWN["jobs"], "dataset": _OWN["datasets"], "plan": {"fill": 3}, "format": "coco"},
    ],
    "create_model": [
        {"name": "campaign-a", "dataset": _OWN["datasets"], "options": {"preset": "small"}},
        {"name": "campaign-a", "dataset": Hole(any_text)},
    ],
    "create_report": [{"job": _OWN["jobs"], "quick": True}, {"model": "mnist", "quick": True}],
    "create_figures": [{"dataset": _OWN["datasets"]}, {}],
    "create_key": [
        {"owner": Ref("owner", "own", 0), "scopes": ["read"]},
        {"owner": "campaign-third", "scopes": ["write", "read"], "expires_in": 60},
    ],
    "create_webhook": [{"url": "https://receiver.invalid/hook", "events": ["job.failed"]}],
    "preview_model": [{"all": 1, "seed": 3}, {"labels": {"3": 1}, "sampler": "prior"}],
    "decode_latents": [{"latents": [[0.0] * 32], "labels": ["3"]}],
    "apply_pipeline": [
        _RECIPE | {"notify": {"webhook": _OWN["webhooks"]}},
        _RECIPE | {"schedule": {"cron": "0 2 * * *", "start": Hole(any_moment)}},
        _RECIPE | {"schedule": {"every": "6h", "end": Hole(any_moment)}},
        _RECIPE | {"plan": {"labels": {"3": Hole(any_number)}}},
        _RECIPE | {"deliver": [{"format": "npz", "name": Hole(any_text)}]},
        _RECIPE | {"source": {"dataset": Hole(any_text)}},
        _RECIPE | {"model": Hole(any_text)},
    ],
    "change_model": [{"visibility": "private"}, {"visibility": "public"}],
    "create_dataset": [{"name": "campaign-a", "source": "sample:mnist", "size": 8}],
}
GOOD["validate_pipeline"] = GOOD["apply_pipeline"]
# Of a hundred requests to a usual operation, how many go to these: what a worker does takes longer,
# and what takes a body has more to draw.
_SHARES = {
    "preview_model": 25, "decode_latents": 25, "create_dataset": 30, "create_figures": 10,
    "create_report": 40, "import_model": 30, "export_model": 30, "follow_job": 50, "healthz": 10,
    "readyz": 10, "read_pipeline_schema": 10, "list_formats": 20, "read_figure": 10,
    "read_figures": 10, "create_sign_in_link": 30, "read_metrics": 30, "create_job": 300,
    "apply_pipeline": 300, "validate_pipeline": 150, "create_export": 200, "create_webhook": 150,
    "create_model": 150, "list_jobs": 150,
}  # fmt: skip
_RAW_JSON = (
    b"", b"{", b"null", b"[]", b'"a"', b"1", b"{}", b'{"a":1}{"a":2}', b"\xff\xfe",
    b"\xef\xbb\xbf{}", b"NaN", b"-", b'{"model":"\xed\xa0\x80"}', b'{"name":"\\ud800"}',
    b"[" * 500 + b"]" * 500,
    b'{"a":' * 300 + b"1" + b"}" * 300, b'{"seed":1' + b"0" * 5000 + b"}", b'{"all":1e999}',
    b'{"all":-0}', b"name: a\nsource: &a {}\n", b"model: !!python/none x\n", b"a: 1\na: 2\n",
    b"\x00", b"name: \x07\n",
)  # fmt: skip


class Requests:
    """Draws requests to a document's operations.

    Args:
        document: the OpenAPI document.
        callers: how far those reach that there are to choose from.
        files: small uploads that are good, by operation.
    """

    def __init__(
        self, document: dict[str, Any], callers: Sequence[str], files: dict[str, bytes]
    ) -> None:
        self.operations = operations_of(document)
        self._schemas = document["components"]["schemas"]
        self._callers, self.files = callers, files

    def best(self, operation: str) -> Drawn:
        """A request that succeeds, if any does."""
        described = self.operations[operation]
        scope = "admin" if operation in FOR_ADMINISTRATORS else "write"
        found = Drawn(operation, self._callers.index(scope))
        kind = _kind(described)
        # The second job was cancelled, and so can be tried again; what is ended was made just now.
        number = 1 if operation == "retry_job" else -1 if described.is_ending else 0
        for parameter in described.parameters("path"):
            name = parameter["name"]
            usual = _usual(operation, name)
            found.path[name] = (
                Ref(_KINDS.get(name, kind), "own", number) if usual is None else usual
            )
        if operation == "compare_models":
            found.query = [("model", Ref("models", "own", 0)), ("model", "mnist")]
        if operation in self.files:
            found.raw, found.query = self.files[operation], [("name", "campaign-a")]
            found.media_type = "application/zip"
        elif described.content:
            found.media_type = "application/json"
            example = described.content["application/json"].get("example", {})
            found.body = GOOD.get(operation, [example])[0]
        return found

    def strategy(self, operation: str) -> st.SearchStrategy[Drawn]:
        """Requests to one operation."""

        @st.composite
        def drawn(draw: Draw) -> Drawn:
            return self._drawn(draw, self.operations[operation])

        return drawn()

    def share(self, operation: str, usual: int) -> int:
        """How many of a round's requests go to an operation, where others get the usual number."""
        return max(1, usual * _SHARES.get(operation, 100) // 100)

    def _drawn(self, draw: Draw, operation: Operation) -> Drawn:
        found = Drawn(operation.name, self._caller(draw, operation))
        found.from_other_site = _one_in(draw, 12)
        kind = _kind(operation)
        for parameter in operation.parameters("path"):
            found.path[parameter["name"]] = self._path(draw, operation, parameter, kind)
        for parameter in operation.parameters("query"):
            if parameter.get("required") or _one_in(draw, 4):
                value = self._parameter(draw, parameter, kind)
                values = value if isinstance(value, list) else [value]
                found.query += [(parameter["name"], one) for one in values]
        if _one_in(draw, 40):
            found.query.append((draw(any_text), draw(any_text)))
        if operation.name == "follow_job" and _one_in(draw, 3):
            found.headers["Last-Event-ID"] = draw(st.sampled_from(_WORDS["last-event-id"]))
        if operation.method == "POST" and _one_in(draw, 10):
            found.headers["Idempotency-Key"] = draw(st.sampled_from(("a", "b", "c", "d" * 200, "")))
        if operation.content:
            self._fill_body(draw, operation, found)
        return found

    def _caller(self, draw: Draw, operation: Operation) -> int:
        """Mostly one whose scope reaches so far, so that what was drawn is read."""
        everybody = range(len(self._callers))
        if _one_in(draw, 3):
            return int(draw(st.sampled_from(everybody)))
        scope = "admin" if operation.name in FOR_ADMINISTRATORS else "write"
        return int(draw(st.sampled_from([one for one in everybody if self._callers[one] == scope])))

    def _path(self, draw: Draw, operation: Operation, parameter: dict[str, Any], kind: str) -> Any:
        name = parameter["name"]
        if name in _WORDS and _one_in(draw, 2):
            return draw(st.sampled_from(_WORDS[name]))
        usual = _usual(operation.name, name)
        if usual is not None:
            return draw(any_text) if _one_in(draw, 4) else usual
        if _one_in(draw, 12):
            return draw(any_text)
        if kind == "models" and _one_in(draw, 3):
            return "mnist"
        return self._ref(draw, _KINDS.get(name, kind))

    def _ref(self, draw: Draw, kind: str) -> Ref:
        whose = draw(st.sampled_from(("own",) * 5 + ("other",) * 2 + ("nobody",)))
        return Ref(kind, whose, draw(st.integers(0, 63)), _one_in(draw, 5))

    def _parameter(self, draw: Draw, parameter: dict[str, Any], kind: str) -> Any:
        name = parameter["name"]
        if _one_in(draw, 5):
            return draw(st.one_of(any_text, any_number, any_moment))
        if name in _NAMED_IN_BODIES:
            one = self._ref(draw, _NAMED_IN_BODIES[name])
            return [one, "mnist"] if name == "model" else one
        if name in _WORDS:
            return draw(st.sampled_from(_WORDS[name]))
        return self._value(draw, parameter["schema"], name, 0)

    def _fill_body(self, draw: Draw, operation: Operation, found: Drawn) -> None:
        kinds = sorted(operation.content)
        media_type = draw(st.sampled_from(kinds))
        if "application/json" in kinds and not _one_in(draw, 5):
            media_type = "application/json"
        found.media_type = media_type
        if media_type not in {"application/json", "application/yaml"}:
            found.raw = self._upload(draw, operation)
            if not any(name == "name" for name, _ in found.query):
                found.query.append(("name", draw(st.sampled_from(_WORDS["name"]))))
            return
        if _one_in(draw, 25):
            found.raw = draw(st.sampled_from(_RAW_JSON))
            return
        found.body = self._body(draw, operation)

    def _upload(self, draw: Draw, operation: Operation) -> bytes:
        good = self.files[operation.name]
        way = draw(st.sampled_from(("good", "good", "other", "cut", "changed")))
        if way == "good":
            return good
        if way == "other":
            return bytes(draw(st.binary(max_size=64)))
        place = draw(st.integers(0, 2**20)) % len(good)
        if way == "cut":
            return good[:place]
        return good[:place] + bytes([good[place] ^ draw(st.integers(1, 255))]) + good[place + 1 :]

    def _body(self, draw: Draw, operation: Operation) -> Any:
        schema = self._resolved(operation.content["application/json"]["schema"])
        if _one_in(draw, 4):
            return self._value(draw, schema, "", 0)
        goods = GOOD.get(operation.name, [operation.content["application/json"].get("example", {})])
        body = _copied(draw, draw(st.sampled_from(goods)))
        properties = sorted(schema.get("properties", {}))
        for _ in range(draw(st.sampled_from((0, 0, 0, 1, 1, 2)))):
            self._mutate(draw, body, properties, schema)
        return body

    def _mutate(
        self, draw: Draw, body: dict[str, Any], properties: list[str], schema: dict[str, Any]
    ) -> None:
        if not properties or _one_in(draw, 8):
            body[draw(any_text)] = draw(anything)  # a field that nobody knows
            return
        name = draw(st.sampled_from(properties))
        if _one_in(draw, 10):
            body.pop(name, None)
        elif _one_in(draw, 3):
            body[name] = draw(anything)
        else:
            body[name] = self._value(draw, schema["properties"][name], name, 1)

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].rpartition("/")[2]]
        return schema

    def _value(self, draw: Draw, given: dict[str, Any], name: str, depth: int) -> Any:
        """A value that mostly follows its schema."""
        schema = self._resolved(given)
        if _one_in(draw, 12):
            return draw(anything)
        if name in _NAMED_IN_BODIES and schema.get("type") != "array" and _one_in(draw, 2):
            return self._ref(draw, _NAMED_IN_BODIES[name])
        if name in _WORDS and schema.get("type") != "array" and _one_in(draw, 2):
            return draw(st.sampled_from(_WORDS[name]))
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self._value(draw, draw(st.sampled_from(schema[word])), name, depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return draw(st.sampled_from(schema["enum"]))
        return self._typed(draw, schema, name, depth)

    def _typed(self, draw: Draw, schema: dict[str, Any], name: str, depth: int) -> Any:
        kind = schema.get("type")
        if kind == "object":
            return self._mapping(draw, schema, depth)
        if kind == "array":
            parts = schema.get("prefixItems") or [schema.get("items", {})] * draw(st.integers(0, 3))
            return [self._value(draw, part, name, depth + 1) for part in parts]
        if kind == "boolean":
            return draw(st.booleans())
        if kind in {"integer", "number"}:
            return self._number(draw, schema, kind)
        if kind == "null":
            return None
        return self._text(draw, schema, name) if kind == "string" else draw(anything)

    def _text(self, draw: Draw, schema: dict[str, Any], name: str) -> Any:
        if schema.get("format") == "date-time":
            return draw(any_moment)
        if schema.get("format") == "uuid":
            return self._ref(draw, _NAMED_IN_BODIES.get(name, "jobs"))
        if schema.get("pattern") and not _one_in(draw, 4):
            return draw(st.sampled_from(_WORDS["name"]))
        return draw(any_text)

    @staticmethod
    def _number(draw: Draw, schema: dict[str, Any], kind: str) -> Any:
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        high = schema.get("maximum", schema.get("exclusiveMaximum", 100))
        edges = [low, high, low - 1, high + 1, (low + high) / 2, low + 1, high - 1]
        edges = [int(one) for one in edges] if kind == "integer" else [float(one) for one in edges]
        if _one_in(draw, 2):
            return draw(st.integers(int(low), int(low) + 5))
        return draw(st.one_of(st.sampled_from(edges), any_number))

    def _mapping(self, draw: Draw, schema: dict[str, Any], depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        most = 3 if depth > 1 else 6
        required = schema.get("required", ())
        for name, part in schema.get("properties", {}).items():
            if (name in required and not _one_in(draw, 20)) or _one_in(draw, most):
                found[name] = self._value(draw, part, name, depth + 1)
        values = schema.get("additionalProperties")
        if isinstance(values, dict):
            for _ in range(draw(st.integers(0, 3))):
                key = draw(st.one_of(st.sampled_from(("0", "3", "train")), any_text))
                found[key] = self._value(draw, values, "", depth + 1)
        elif values is True and _one_in(draw, 2):
            found[draw(any_text)] = draw(anything)
        if values is False and _one_in(draw, 15):
            found[draw(any_text)] = draw(anything)
        return found


def _kind(operation: Operation) -> str:
    """Of what the operation's path is about: jobs, models."""
    return operation.path.split("/")[2] if operation.path.count("/") > 1 else ""


def _usual(operation: str, parameter: str) -> str | None:
    """What a second parameter of a path is, where all is well."""
    if parameter == "name" and operation == "read_report_file":
        return "report.json"
    return {"index": "0", "kind": "png", "name": "samples.png", "path": "manifest.json"}.get(
        parameter
    )


def _one_in(draw: Draw, number: int) -> bool:
    return bool(draw(st.integers(0, number - 1)) == 0)


def _copied(draw: Draw, value: Any) -> Any:
    """A body of its own, its references to another one of the things; some to the other owner's."""
    if isinstance(value, Ref):
        whose: Whose = "other" if _one_in(draw, 5) else "own"
        return Ref(value.kind, whose, draw(st.integers(0, 63)), value.by_name)
    if isinstance(value, Hole):
        return draw(value.values)
    if isinstance(value, dict):
        return {key: _copied(draw, part) for key, part in value.items()}
    return [_copied(draw, part) for part in value] if isinstance(value, list) else value
