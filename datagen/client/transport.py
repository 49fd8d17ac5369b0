"""HTTP to one server: the key on every request, datagen's errors, retries where they are safe."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import stamina
from pydantic import BaseModel, ValidationError

import datagen
from datagen.client.address import Address
from datagen.errors import (
    PROBLEM_PREFIX,
    DatagenError,
    InFlight,
    InvalidRequest,
    ServerUnreachable,
    TooManyRequests,
    Unavailable,
    error_for,
)
from datagen.schemas import Problem
from datagen.texts import unfit_character, why_unfit

ATTEMPTS = 4
# The name of the client in the context that answers are read with.
CLIENT = "client"
_PASSING = frozenset({502, 503, 504})
_CONFLICT, _TOO_MANY = 409, 429
# A server that asks for more patience than this is not waited for.
LONGEST_WAIT = 30.0

Answer = TypeVar("Answer", bound=BaseModel)


def _attempts(on: type[Exception] | tuple[type[Exception], ...]) -> Iterable[stamina.Attempt]:
    return stamina.retry_context(
        on=on, attempts=ATTEMPTS, wait_initial=0.1, wait_max=1.0, wait_jitter=0.1
    )


def _wait(response: httpx.Response) -> None:
    """Wait as long as a limit of requests asks to, if it is not too long."""
    told = response.headers.get("Retry-After", "")
    if response.status_code == _TOO_MANY and told.isdigit() and int(told) <= LONGEST_WAIT:
        time.sleep(int(told))


def quoted(reference: object) -> str:
    """An id or a name, fit to be one part of a path.

    Raises:
        InvalidRequest: text without a UTF-8 form, as a terminal gives bytes that are no UTF-8.
    """
    text = str(reference)
    _refuse_unfit("The name or id", text)
    return quote(text, safe="")


def _query(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for by a query; raises InvalidRequest for text that cannot be sent."""
    wanted = {name: value for name, value in values.items() if value is not None}
    for name, value in wanted.items():
        _refuse_unfit(f"'{name}'", value, name)
    return wanted


def _refuse_unfit(what: str, value: object, field: str | None = None) -> None:
    if (found := unfit_character(value)) is not None:
        raise InvalidRequest(f"{what} holds {why_unfit(found)}.", field=field)


class Transport:
    """A pool of connections to one server. Not a public name: `Client` is."""

    def __init__(self, address: Address, timeout: float) -> None:
        headers = {"User-Agent": f"datagen/{datagen.__version__}"}
        if address.api_key is not None:
            headers["Authorization"] = f"Bearer {address.api_key}"
        self.url = address.url
        # Whoever holds this connection: answers know it, so that they can be asked for more.
        self.client: object = None
        self.timeout = timeout
        self._http = httpx.Client(
            base_url=address.url,
            headers=headers,
            timeout=timeout,
            # A proxy from the environment cannot reach a server on this machine.
            trust_env=not address.is_local,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, answer: type[Answer], **query: Any) -> Answer:
        """Read a resource; tried again when the server is away for a moment."""
        return self._parsed(self._get(path, query), answer)

    def get_bytes(self, path: str, **query: Any) -> bytes:
        """Read a file that fits in memory; tried again like `get`."""
        return self._get(path, query).content

    def post(
        self,
        path: str,
        answer: type[Answer],
        body: Mapping[str, Any] | None = None,
        *,
        patient: bool = False,
    ) -> Answer:
        """Create or change; done once, however often it has to be sent.

        With `patient` the answer may take as long as it takes.
        """
        # json.dumps and not httpx: the server, not the client, is to refuse NaN in its own words.
        content = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        # By this key the server knows the request again, and what it answered.
        headers["Idempotency-Key"] = uuid.uuid4().hex
        for attempt in _attempts((Unavailable, InFlight, TooManyRequests)):
            with attempt, self._failures_named():
                response = self._http.post(
                    path,
                    content=content,
                    headers=headers,
                    timeout=httpx.Timeout(self.timeout, read=None) if patient else self.timeout,
                )
                if response.status_code in {*_PASSING, _CONFLICT, _TOO_MANY}:
                    _wait(response)
                    self._raise_for_problem(response)
        self._raise_for_problem(response)
        return self._parsed(response, answer)

    def patch(self, path: str, answer: type[Answer], body: Mapping[str, Any]) -> Answer:
        """Change a resource; the same again changes nothing more."""
        headers = {"Content-Type": "application/json"}
        for attempt in _attempts((Unavailable, TooManyRequests)):
            with attempt, self._failures_named():
                response = self._http.patch(path, content=json.dumps(body), headers=headers)
                if response.status_code in {*_PASSING, _TOO_MANY}:
                    _wait(response)
                    self._raise_for_problem(response)
        self._raise_for_problem(response)
        return self._parsed(response, answer)

    def delete(self, path: str, **query: Any) -> None:
        """Remove a resource."""
        wanted = _query(query)
        with self._failures_named():
            response = self._http.delete(path, params=wanted)
        self._raise_for_problem(response)

    def upload(
        self, path: str, answer: type[Answer], chunks: Iterator[bytes], length: int, **query: Any
    ) -> Answer:
        """Send `length` bytes as the body, chunk by chunk."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        query = _query(query)
        # The server reads the whole set before it answers: only the connection has a time limit.
        patient = httpx.Timeout(self.timeout, read=None, write=None)
        with self._failures_named():
            response = self._http.post(
                path, params=query, content=chunks, headers=headers, timeout=patient
            )
        self._raise_for_problem(response)
        return self._parsed(response, answer)

    @contextmanager
    def stream(
        self, path: str, headers: Mapping[str, str], *, read_seconds: float | None = None
    ) -> Iterator[httpx.Response]:
        """Read a body chunk by chunk; failures to connect or read are httpx's own.

        `read_seconds` is how long nothing may come; as for other requests if None.
        """
        timeout = httpx.Timeout(self.timeout, read=read_seconds or self.timeout)
        with self._http.stream("GET", path, headers=dict(headers), timeout=timeout) as response:
            if response.is_error:
                response.read()
            self._raise_for_problem(response)
            yield response

    def _get(self, path: str, query: Mapping[str, Any]) -> httpx.Response:
        wanted = _query(query)
        for attempt in _attempts((Unavailable, TooManyRequests)):
            with attempt, self._failures_named():
                response = self._http.get(path, params=wanted)
                if response.status_code in {*_PASSING, _TOO_MANY}:
                    _wait(response)
                    self._raise_for_problem(response)
        self._raise_for_problem(response)
        return response

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise self.failure(error) from error

    def failure(self, error: httpx.TransportError) -> Unavailable:
        """The error of ours that says what httpx's means."""
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return ServerUnreachable(
                f"No server answers at {self.url} ({error}); check the address, "
                "or start a server with `datagen up`."
            )
        if isinstance(error, httpx.TimeoutException):
            return Unavailable(f"{self.url} gave no answer within {self.timeout:g} s; try again.")
        return Unavailable(
            f"The connection to {self.url} broke ({error or type(error).__name__}); try again."
        )

    def _raise_for_problem(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        if response.has_redirect_location:
            raise DatagenError(
                f"{self.url} redirects to {response.headers['location']}; use that server's URL."
            )
        try:
            problem = Problem.model_validate_json(response.content)
        except ValidationError:
            # A gateway in between speaks for itself, and means that the server is away.
            passing = response.status_code in _PASSING
            kind = Unavailable if passing else error_for(PROBLEM_PREFIX, response.status_code)
            raise kind(
                f"{self.url} answered {response.status_code} {response.reason_phrase} "
                f"to {response.request.method} {response.request.url.path}."
            ) from None
        raise error_for(problem.type, problem.status)(problem.detail, field=problem.field)

    def read_as(self, answer: type[Answer], content: bytes | str) -> Answer:
        """What a server said, as one of our types; fields that it does not know pass it by.

        Raises ValidationError.
        """
        context = {CLIENT: self.client}
        return answer.model_validate_json(content, extra="ignore", context=context)

    def _parsed(self, response: httpx.Response, answer: type[Answer]) -> Answer:
        try:
            return self.read_as(answer, response.content)
        except ValidationError as error:
            raise DatagenError(
                f"{self.url} did not answer as a datagen server does "
                f"({response.request.method} {response.request.url.path}); "
                "check the address and the server's version."
            ) from error
