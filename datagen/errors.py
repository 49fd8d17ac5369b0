"""Every error that datagen raises on purpose, with the HTTP status that it becomes.

    DatagenError
    ├── InvalidRequest (422)        a value in the request is wrong; `field` names it
    │   ├── UnknownLabel            a label that the model does not know
    │   ├── QuotaExceeded           more than the owner may have
    │   └── InvalidFile             a file that is truncated, corrupt or of the wrong kind
    ├── MalformedRequest (400)      not JSON, or not what the route reads
    ├── Unauthorized (401)          no key, or one that is not valid
    ├── Forbidden (403)             the key's scopes do not reach this far
    ├── NotFound (404)              nothing of that name or id that the owner may see
    ├── Conflict (409)              not in the state that the request needs
    │   └── InFlight                the same request came before and is still being done
    ├── Gone (410)                  it was there, and its time is over
    ├── TooLarge (413)              the body is larger than the limit
    ├── TooManyRequests (429)       more than the key may make in this time; wait
    ├── Unavailable (503)           a part of the service is away; try again
    │   ├── QueueUnavailable        the broker does not answer
    │   └── ServerUnreachable       the client found no server
    ├── StorageFailure (507)        the object store refused to write: disk full, not writable
    ├── HomeUnusable                the state folder is in use, not writable, or too old
    ├── DeviceUnusable              the requested device is not there
    ├── TrainingDiverged            the loss is no longer a number
    └── Cancelled                   the work was told to stop

One sentence says what was wrong, with the value, and what to do. The API renders an error as
`application/problem+json`, the client raises the same class again, the CLI prints it in a line.
"""

from __future__ import annotations

from typing import ClassVar

PROBLEM_PREFIX = "urn:datagen:problem:"


class DatagenError(Exception):
    """Root of the tree; `slug` is the stable end of the problem's `type`."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong inside datagen"
    # Whether the same may go well later, though nobody changes what was asked for.
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field

    @property
    def problem_type(self) -> str:
        """The stable `type` of the problem+json document."""
        return PROBLEM_PREFIX + self.slug


class InvalidRequest(DatagenError):
    """A value in the request is wrong; `field` names it."""

    status = 422
    slug = "invalid-request"
    title = "The request has a value that cannot be used"


class UnknownLabel(InvalidRequest):
    """A label that the model does not know, or has not learnt."""

    slug = "unknown-label"
    title = "The model has not learnt such a label"


class QuotaExceeded(InvalidRequest):
    """More than the owner may have."""

    slug = "quota-exceeded"
    title = "The request goes beyond the quota"


class InvalidFile(InvalidRequest):
    """A file that is truncated, corrupt or of the wrong kind."""

    slug = "invalid-file"
    title = "A file cannot be read"


class MalformedRequest(DatagenError):
    """Not JSON, or not what the route reads."""

    status = 400
    slug = "malformed-request"
    title = "The request cannot be read"


class Unauthorized(DatagenError):
    """No key, or one that is not valid."""

    status = 401
    slug = "unauthorized"
    title = "A valid API key is needed"


class Forbidden(DatagenError):
    """The key's scopes do not reach this far."""

    status = 403
    slug = "forbidden"
    title = "The key does not allow this"


class NotFound(DatagenError):
    """Nothing of that name or id that the owner may see."""

    status = 404
    slug = "not-found"
    title = "There is no such thing"


class Conflict(DatagenError):
    """Not in the state that the request needs."""

    status = 409
    slug = "conflict"
    title = "The state does not allow this"


class InFlight(Conflict):
    """The same request came before and is still being done."""

    slug = "in-flight"
    title = "The first of these requests is still being done"
    retryable = True


class Gone(DatagenError):
    """It was there, and its time is over."""

    status = 410
    slug = "gone"
    title = "This is no longer kept"


class TooLarge(DatagenError):
    """The body is larger than the limit."""

    status = 413
    slug = "too-large"
    title = "The request is too large"


class TooManyRequests(DatagenError):
    """More requests than the key may make in this time."""

    status = 429
    slug = "too-many-requests"
    title = "Too many requests"
    retryable = True

    def __init__(
        self, detail: str, *, field: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(detail, field=field)
        # Seconds, as the API says them.
        self.retry_after = retry_after


class Unavailable(DatagenError):
    """A part of the service is away; try again."""

    status = 503
    slug = "unavailable"
    title = "A part of the service is away"
    retryable = True


class QueueUnavailable(Unavailable):
    """The broker does not answer."""

    slug = "queue-unavailable"
    title = "The message broker does not answer"


class ServerUnreachable(Unavailable):
    """The client found no server."""

    slug = "server-unreachable"
    title = "No server answers"


class StorageFailure(DatagenError):
    """The object store refused to write: disk full, not writable."""

    status = 507
    slug = "storage-failure"
    title = "The storage cannot be written"
    retryable = True


class HomeUnusable(DatagenError):
    """The state folder is in use, not writable, or too old."""

    slug = "home-unusable"
    title = "The state folder cannot be used"


class DeviceUnusable(DatagenError):
    """The requested device is not there."""

    slug = "device-unusable"
    title = "The device cannot be used"


class TrainingDiverged(DatagenError):
    """The loss is no longer a number."""

    slug = "training-diverged"
    title = "The training diverged"


class Cancelled(DatagenError):
    """The work was told to stop."""

    slug = "cancelled"
    title = "The work was cancelled"


def reason_of(error: Exception) -> str:
    """What went wrong, as it is kept beside the work that it ended."""
    return error.detail if isinstance(error, DatagenError) else f"{type(error).__name__}: {error}"


def _tree(root: type[DatagenError]) -> dict[str, type[DatagenError]]:
    found = {root.slug: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


def error_for(problem_type: str, status: int) -> type[DatagenError]:
    """The class that stands for a problem's `type`, else the first that has its status."""
    known = _tree(DatagenError)
    slug = problem_type.removeprefix(PROBLEM_PREFIX)
    if slug in known:
        return known[slug]
    return next((kind for kind in known.values() if kind.status == status), DatagenError)
