"""What all wire types stand on: limits, names, pages, and the form of an error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from datagen.texts import unfit_character, why_unfit

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})

MAX_SEED = 2**63 - 1
# Of a seed that datagen chooses: a float64 holds such a number exactly, and with it JavaScript,
# jq, and pandas where a column has gaps.
DRAWN_SEED_BITS = 53
MAX_IMAGES = 10_000_000_000
# Candidates of one image that a gate may refuse before it is given up.
MAX_ATTEMPTS = 1000
MAX_TEMPERATURE = 10.0
MAX_TRUNCATION = 10.0
Sampler = Literal["prior", "density", "neighbour", "interpolate"]
# Those that begin with a real image of the label.
STARTING_FROM_IMAGES = frozenset({"neighbour", "interpolate"})
SPLITS = ("train", "validation", "test")
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"

Name = Annotated[
    str,
    Field(
        pattern=NAME_PATTERN,
        description="Lower-case letters, digits, '.', '_' and '-', at most 64.",
        examples=["defects"],
    ),
]
# What people and programs write where they name no licence.
_NO_LICENCES = frozenset(
    {"-", "n/a", "na", "nil", "noassertion", "none", "null", "undefined", "unknown"}
)


def _names_licence(text: str) -> str:
    if text != text.strip() or not text.isprintable():
        raise ValueError("a licence is plain text without spaces around it")
    if not any(letter.isalpha() for letter in text) or text.lower() in _NO_LICENCES:
        raise ValueError("that names no licence; leave it out where there is none")
    return text


def _no_boolean(value: object) -> object:
    """Refuse true and false, which pydantic reads as 1 and 0."""
    if isinstance(value, bool):
        # pydantic reports a ValueError as a wrong field; a TypeError would pass through it.
        raise ValueError(  # noqa: TRY004
            f"write a number, not {str(value).lower()}"
        )
    return value


WholeNumber = Annotated[int, BeforeValidator(_no_boolean)]
RealNumber = Annotated[float, BeforeValidator(_no_boolean)]


def _shares(value: dict[str, float]) -> dict[str, float]:
    for name, share in value.items():
        if name not in SPLITS:
            raise ValueError(f"there is no split {name[:40]!r}; there are {', '.join(SPLITS)}")
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"the share of {name} is {share}; it must be from 0 to 1")
    if not math.isclose(sum(value.values()), 1.0, abs_tol=1e-6):
        raise ValueError(f"the shares add up to {sum(value.values()):g}; they must to 1")
    return value


Shares = Annotated[dict[str, RealNumber], AfterValidator(_shares), Field(max_length=len(SPLITS))]
License = Annotated[
    str,
    AfterValidator(_names_licence),
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f]+$",
        description="Under which the images may be used, best as an SPDX identifier.",
        examples=["cc-by-4.0"],
    ),
]
ClassOrder = Annotated[
    Literal["dataset", "name"],
    Field(
        description="How the classes are numbered: as in the dataset or model, or by their names "
        "(numbers by their size)."
    ),
]
# Marks a field, in the OpenAPI document too, whose answer is never stored: it is shown once.
SHOWN_ONCE = "x-shown-once"
ShownOnce = Annotated[str, Field(json_schema_extra={SHOWN_ONCE: True})]
# A day from the ends of what calendars of programs know: within it every zone has a local time.
_FIRST_MOMENT = datetime(1, 1, 2, tzinfo=UTC)
_LAST_MOMENT = datetime(9999, 12, 30, tzinfo=UTC)


def within_calendar(moment: datetime) -> datetime:
    """The same moment in UTC.

    Raises:
        ValueError: so near to an end of the calendar that some zone has no local time for it.
    """
    try:
        found = moment.astimezone(UTC)
    except OverflowError:
        found = None
    if found is None or not _FIRST_MOMENT <= found <= _LAST_MOMENT:
        raise ValueError("write a moment from 0001-01-02 to 9999-12-30, in UTC")
    return found


Moment = Annotated[AwareDatetime, AfterValidator(within_calendar)]

Count = Annotated[int, Field(ge=1, le=MAX_IMAGES, strict=True)]
# The distance that the sampler `neighbour` keeps from the real image that it starts from.
Strength = Annotated[RealNumber, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


def _number_in_text(value: object) -> object:
    """The number that a text of digits spells; anything else as it is."""
    if not isinstance(value, str):
        return value
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(MAX_SEED))):
        raise ValueError(f"write a seed as a whole number from 0 to {MAX_SEED}, digits alone")
    return int(value)


_SEED_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
        {
            "type": "string",
            "pattern": f"^[0-9]{{1,{len(str(MAX_SEED))}}}$",
            "description": f"The digits of a whole number up to {MAX_SEED}. Send a seed above "
            "2^53 - 1 (9007199254740991) so from JavaScript, and wherever else numbers are "
            "floating-point: as a number it would be rounded, to another seed.",
        },
    ]
}
Seed = Annotated[
    int,
    BeforeValidator(_number_in_text),
    Field(ge=0, le=MAX_SEED, strict=True),
    WithJsonSchema(_SEED_SCHEMA),
]
# What answers say of a seed, beside the number.
SEED_TEXT = (
    "The digits of `seed`, for JavaScript and whatever else would round a number above 2^53 - 1. A "
    "seed that datagen chose lies below that."
)


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Of several problems the first: where it is, with dots between the parts, and what it is."""
    first = error.errors()[0]
    return ".".join(str(part) for part in first["loc"]), str(first["msg"])


class Request(BaseModel):
    """A body that a client sends."""

    # JSON as Python reads it has numbers that are none; no request means them.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _can_be_kept(cls, value: Any) -> Any:
        """Refuse text that cannot be stored or shown, at any depth."""
        if not isinstance(value, Mapping):
            return value
        for name, part in value.items():
            if (found := unfit_character(name)) is not None:
                raise ValueError(f"the name of a field holds {why_unfit(found)}")
            if (found := unfit_character(part)) is not None:
                raise ValueError(f"'{name}' holds {why_unfit(found)}")
        return value


class Resource(BaseModel):
    """Something that the API answers with."""

    model_config = ConfigDict(extra="ignore", frozen=True, from_attributes=True)


Item = TypeVar("Item")


class Page(Resource, Generic[Item]):
    """Some items of a list; `next_cursor` asks for those that follow."""

    items: list[Item]
    next_cursor: str | None = None


class Readiness(Resource):
    """Which parts of the service answer."""

    ready: bool
    parts: dict[str, str] = Field(
        description="Part, and 'ok' or 'unavailable'; an administrator's key shows what is wrong."
    )


class Problem(Resource):
    """An error, as `application/problem+json` (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
