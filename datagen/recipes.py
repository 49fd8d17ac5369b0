"""Recipe files: YAML or JSON as people write it, read without what YAML can be abused for.

A strict part of YAML 1.2: mappings, lists and plain values, in one document. No aliases (a few of
them unfold to gigabytes), no tags (they name code), no key twice, no `on` that means true.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from datagen.errors import InvalidRequest, MalformedRequest

MAX_BYTES = 100_000
MAX_DEPTH = 20
# As JavaScript's Number.MAX_SAFE_INTEGER.
MOST_EXACT = 2**53 - 1
MEDIA_TYPES = ("application/yaml", "application/x-yaml", "text/yaml")


class _Refused(yaml.MarkedYAMLError):
    """Something that YAML has and recipes do not."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    """The safe loader, with less in it."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as the library has it
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node, if it is a plain one."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _Refused(f"'*{event.anchor}' is an alias; write the value out", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _Refused(f"{event.tag!r} is a tag; leave it out", event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Refused(f"more than {MAX_DEPTH} levels lie in each other", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are texts, each there once."""
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is None:
                raise _Refused("a key is no text", key.start_mark)
            if name in seen:
                raise _Refused(f"{name[:40]!r} stands there twice", key.start_mark)
            seen.add(name)
            key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep=deep)


_PLAIN = (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
    (
        "float",
        r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$|^[-+]?[0-9]+[eE][-+]?[0-9]+$",
        list("-+.0123456789"),
    ),
)
for _name, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), _first)


def read_recipe(data: bytes) -> dict[str, Any]:
    """What a recipe file says, not checked yet.

    Raises:
        MalformedRequest: too long, no UTF-8, no YAML, or no mapping.
        InvalidRequest: a number with more digits than any has.
    """
    if len(data) > MAX_BYTES:
        raise MalformedRequest(
            f"The recipe has {len(data):,} bytes, and {MAX_BYTES:,} are the most; write less."
        )
    try:
        found = yaml.load(data.decode("utf-8-sig"), _Loader)  # noqa: S506 - the safe one, and less
    except UnicodeDecodeError as error:
        raise MalformedRequest(
            f"The recipe is not UTF-8 (byte {error.start}); save it as UTF-8."
        ) from None
    except yaml.YAMLError as error:
        raise MalformedRequest(f"The recipe cannot be read: {_words(error)}.") from None
    except ValueError:
        raise InvalidRequest("The recipe has a number with too many digits.") from None
    if not isinstance(found, dict):
        raise MalformedRequest(
            "The recipe is no mapping; it begins with lines such as 'name: nightly'."
        )
    return found


def in_digits(value: Any) -> Any:
    """The same with each whole number that a float64 does not hold, a large seed, as its digits."""
    if isinstance(value, dict):
        return {name: in_digits(one) for name, one in value.items()}
    if isinstance(value, list):
        return [in_digits(one) for one in value]
    if isinstance(value, int) and abs(value) > MOST_EXACT:
        return str(value)
    return value


def written(recipe: dict[str, Any]) -> str:
    """A recipe as YAML, its fields in their order."""
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)


def _words(error: yaml.YAMLError) -> str:
    parts = [getattr(error, name, None) for name in ("context", "problem", "reason")]
    problem = ", ".join(str(part) for part in parts if part) or str(error)
    mark = getattr(error, "problem_mark", None)
    where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
    return " ".join(str(problem).split())[:200].rstrip(".") + where
