"""Requests to addresses that users name: to public ones alone, and to the one that was looked at.

The name is resolved where the connection is made, every address of it must be a public one, and the
connection goes to an address that was checked: a name that is resolved twice may answer twice
otherwise. Redirects are not followed, and the whole takes ten seconds at most.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore

from datagen.errors import Forbidden

ANSWER_SECONDS = 10.0
MOST_READ = 2048


class _Limited(httpcore.NetworkStream):
    """A connection that ends at a moment, however slowly the other side drips."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: float) -> None:
        self._inner, self._deadline = inner, deadline

    def _left(self, error: type[Exception]) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise error(f"no whole answer within {ANSWER_SECONDS:g} s")
        return left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See httpcore; never longer than the whole may take."""
        del timeout
        return self._inner.read(max_bytes, self._left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See httpcore; likewise."""
        del timeout
        self._inner.write(buffer, self._left(httpcore.WriteTimeout))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """See httpcore; likewise."""
        del timeout
        left = self._left(httpcore.ConnectTimeout)
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
        address = self._checked(host, port)
        inner = self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
        return _Limited(inner, self._deadline)

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        """Never: no user may name one."""
        del timeout, socket_options
        raise Forbidden(f"{path} is a socket of this machine.")

    def _checked(self, host: str, port: int) -> str:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name {host!r} is not found ({error})") from None
        addresses = [str(one[4][0]) for one in found]
        private = [address for address in addresses if not is_public(address)]
        if private and not self._allow_private:
            raise Forbidden(
                f"{host!r} is {private[0]}, which is no public address; have "
                "DATAGEN_WEBHOOKS_PRIVATE set where webhooks may go inside."
            )
        return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's, and of no network inside."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        # What is packed into an IPv6 address is where it goes in the end.
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is not None:
            return is_public(str(inner))
        if found in ipaddress.ip_network("64:ff9b::/96"):
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
    return found.is_global and not found.is_multicast


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
