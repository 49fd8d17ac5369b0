"""Requests to addresses that users name: to public ones alone, and to the one that was looked at.

The name is resolved where the connection is made, every address of it must be a public one, and the
connection goes to an address that was checked: a name that is resolved twice may answer twice
otherwise. Redirects are not followed, and the whole takes ten seconds at most, from the lookup of
the name to the last byte that is read.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore

from datagen.errors import Forbidden
from datagen.service import addresses

ANSWER_SECONDS = 10.0
MOST_READ = 2048


def seconds_left(deadline: float, error: type[Exception]) -> float:
    """Seconds until a deadline; raises the error where it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise error(f"no whole answer within {ANSWER_SECONDS:g} s")
    return left


class _Limited(httpcore.NetworkStream):
    """A connection that ends at a moment, however slowly the other side drips."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: float) -> None:
        self._inner, self._deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See httpcore; never longer than the whole may take."""
        del timeout
        return self._inner.read(max_bytes, seconds_left(self._deadline, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See httpcore; likewise."""
        del timeout
        self._inner.write(buffer, seconds_left(self._deadline, httpcore.WriteTimeout))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """See httpcore; likewise."""
        del timeout
        left = seconds_left(self._deadline, httpcore.ConnectTimeout)
        inner = self._inner.start_tls(ssl_context, server_hostname, left)
        return _Limited(inner, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """See httpcore."""
        return self._inner.get_extra_info(info)

    def close(self) -> None:
        """See httpcore."""
        self._inner.close()


class _Guarded(httpcore.NetworkBackend):
    """Connects to public addresses alone."""

    def __init__(self, *, allow_private: bool) -> None:
        self._inner = httpcore.SyncBackend()
        self._allow_private = allow_private
        self._deadline = time.monotonic() + ANSWER_SECONDS

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to a checked address of the host. Raises Forbidden."""
        del timeout
        address = self._checked(host, port)
        left = seconds_left(self._deadline, httpcore.ConnectTimeout)
        inner = self._inner.connect_tcp(address, port, left, local_address, socket_options)
        return _Limited(inner, self._deadline)

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        """Never: no user may name one."""
        del timeout, socket_options
        raise Forbidden(f"{path} is a socket of this machine.")

    def _checked(self, host: str, port: int) -> str:
        left = seconds_left(self._deadline, httpcore.ConnectTimeout)
        try:
            found = addresses.lookup(host, port, left)
        except addresses.LookupFailed as error:
            raise httpcore.ConnectError(str(error)) from None
        if not self._allow_private and not all(map(addresses.is_public, found)):
            raise Forbidden(addresses.refusal(host))
        return found[0]


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, allow_private: bool
) -> tuple[int, str]:
    """Post to a URL; the status of the answer, and its beginning.

    Raises:
        Forbidden: the host has an address that is not public.
        httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError: no answer came.
    """
    timeout = dict.fromkeys(("connect", "read", "write", "pool"), ANSWER_SECONDS)
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    with (
        httpcore.ConnectionPool(
            network_backend=_Guarded(allow_private=allow_private), retries=0
        ) as pool,
        pool.stream(
            "POST", url, headers=sent, content=body, extensions={"timeout": timeout}
        ) as answer,
    ):
        read = b""
        for part in answer.iter_stream():
            read += part
            if len(read) >= MOST_READ:
                break
        return answer.status, read[:MOST_READ].decode("utf-8", "replace")
