"""Every error as `application/problem+json` (RFC 9457): one sentence, never a traceback."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from datagen.api.logs import log, redacted
from datagen.errors import (
    PROBLEM_PREFIX,
    DatagenError,
    InFlight,
    InvalidRequest,
    MalformedRequest,
    NotFound,
    StorageFailure,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from datagen.schemas import Problem, Request

PROBLEM_JSON = "application/problem+json"
SHOWN_CHARACTERS = 60
_QUOTED_NAME = re.compile(r"'(\w+)'")


class ProblemResponse(Response):
    """A problem document, in ASCII: what it quotes may be text that has no UTF-8 form."""

    media_type = PROBLEM_JSON

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(problem.model_dump(exclude_none=True)).encode("ascii")
        super().__init__(body, status_code=problem.status, headers=dict(headers or {}))


def problem_of(error: DatagenError) -> Problem:
    """The wire form of an error."""
    return Problem(
        type=error.problem_type,
        title=error.title,
        status=error.status,
        detail=redacted(error.detail),
        field=error.field,
    )


def problem_response(error: DatagenError) -> ProblemResponse:
    """The answer that an error becomes."""
    headers = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Unavailable):
        headers["Retry-After"] = "2"
    if isinstance(error, InFlight):
        headers["Retry-After"] = "1"
    if isinstance(error, TooManyRequests) and error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return ProblemResponse(problem_of(error), headers)


def unforeseen() -> DatagenError:
    """What is said of an error that nobody foresaw; the log knows more."""
    return DatagenError("An unexpected error; the server's log holds it under this request's id.")


def internal_problem() -> ProblemResponse:
    """The answer to an error that nobody foresaw."""
    return problem_response(unforeseen())


def install_error_answers(app: FastAPI) -> None:
    """Render every kind of error that a route, the framework or the database raises."""
    app.add_exception_handler(DatagenError, _datagen)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    for kind in (OperationalError, InterfaceError, DataError):
        app.add_exception_handler(kind, _database)


async def _datagen(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, DatagenError)  # noqa: S101 - narrows the framework's wide type
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("refused", problem=error.slug, detail=error.detail)
    return problem_response(error)


async def _validation(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    return problem_response(invalid_request(error.errors()))


async def _http(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    known: dict[int, DatagenError] = {
        400: MalformedRequest("The body cannot be read; send one JSON object."),
        404: NotFound(f"There is nothing at {request.url.path[:200]}; /openapi.json lists paths."),
        413: TooLarge(str(error.detail)),
    }
    if error.status_code in known:
        return problem_response(known[error.status_code])
    status = HTTPStatus(error.status_code)
    problem = Problem(
        type=PROBLEM_PREFIX + status.phrase.lower().replace(" ", "-"),
        title=status.phrase,
        status=status,
        detail=f"{request.method} {request.url.path[:200]} is answered with {status.value}: "
        f"{status.description or status.phrase}.",
    )
    return ProblemResponse(problem, error.headers)


async def _database(_: HttpRequest, error: Exception) -> Response:
    log.error("database", error=type(error).__name__, detail=str(getattr(error, "orig", error)))
    if isinstance(error, DataError):
        return problem_response(
            InvalidRequest("A value has characters that the database cannot hold; change it.")
        )
    text = str(error)
    if "disk is full" in text or "readonly" in text or "disk I/O" in text:
        return problem_response(
            StorageFailure("The database cannot be written: its disk is full or read-only.")
        )
    return problem_response(Unavailable("The database does not answer; try again in a moment."))


def invalid_body(error: ValidationError) -> DatagenError:
    """The refusal of a body that a route has read itself."""
    return invalid_request([one | {"loc": ("body", *one["loc"])} for one in error.errors()])


def invalid_request(errors: Any) -> DatagenError:
    """The first of pydantic's errors as one of ours, with the others counted."""
    # A misspelt field is missing, too, by its right name: what it was called says more.
    first = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    where, path = first["loc"][0], [str(part) for part in first["loc"][1:]]
    if where == "path":
        return NotFound(f"There is no {_words(path[-1])} {_quoted(first['input'])}.")
    unreadable = not path or (first["type"] == "json_invalid")
    if where == "body" and unreadable and not _is_own(first):
        return MalformedRequest(
            "The body cannot be read; send one JSON object with Content-Type: application/json."
        )
    # A rule of ours over several fields names them in quotes; the first is where to look.
    named = _QUOTED_NAME.search(str(first["msg"]))
    field = ".".join(path) or (named[1] if named else None)
    more = f" ({len(errors) - 1} more of the request's values are wrong.)" if errors[1:] else ""
    return InvalidRequest(_sentence(first, field) + more, field=field)


def _is_own(error: Mapping[str, Any]) -> bool:
    """Whether a validator of ours, and not pydantic, wrote the message."""
    return bool(error["type"] == "value_error")


def _sentence(error: Mapping[str, Any], field: str | None) -> str:
    message = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    # A name that nobody knows may be any text, of any length and over many lines.
    shown = _quoted(field)
    if error["type"] == "missing":
        return f"{shown} is missing; give it."
    if error["type"] == "extra_forbidden":
        return (
            f"{shown} is no field of this request; {_hint(str(error['loc'][-1]), _known_fields())}"
        )
    if field is None or f"'{field}'" in message:
        return message[:1].upper() + message[1:] + "."
    return f"{shown} is {_quoted(error['input'])}: {message[:1].lower()}{message[1:]}."


@cache
def _known_fields() -> list[str]:
    """The names that requests know, in all their parts."""
    left, names = [Request], set[str]()
    while left:
        kind = left.pop()
        left += kind.__subclasses__()
        names |= set(kind.model_fields)
    return sorted(names)


def unknown_parameter(name: str, known: Collection[str]) -> InvalidRequest:
    """The refusal of a query that names something which its route does not know."""
    shown = _quoted(name)
    return InvalidRequest(
        f"{shown} is no query parameter of this request; {_hint(name, known)}", field=name[:60]
    )


def _hint(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if name in near:
        return "it belongs elsewhere; /docs shows where."
    return f"'{near[0]}' may be meant." if near else "check its spelling."


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def _words(parameter: str) -> str:
    return parameter.removesuffix("_id").replace("_", " ")
