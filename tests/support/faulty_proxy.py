"""A proxy before a server that fails as a test says: 5xx, slow, cut in the middle of a body."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

CHUNK = 65_536
BODY = b"<Error><Code>ServiceUnavailable</Code><Message>Reduce your request rate.</Message></Error>"
FAILED = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(BODY), BODY)
)


@dataclass
class Faults:
    """How the next connections go.

    Attributes:
        refuse: how many of them are answered with 503.
        cut_after: bytes of the server's answer after which a connection is reset.
        cut_request_after: bytes of the request after which a connection is reset.
        delay: seconds before an answer.
        times: how many connections are cut or delayed; every one if None.
        staged: how many connections had a fault.
    """

    refuse: int = 0
    cut_after: int | None = None
    cut_request_after: int | None = None
    delay: float = 0.0
    times: int | None = None
    staged: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def clear(self) -> None:
        """All is well again."""
        self.refuse, self.delay, self.staged, self.times = 0, 0.0, 0, None
        self.cut_after = self.cut_request_after = None

    def takes_refusal(self) -> bool:
        """Whether this connection is one of those that are refused."""
        with self.lock:
            if self.refuse <= 0:
                return False
            self.refuse -= 1
            self.staged += 1
            return True

    def takes_fault(self) -> bool:
        """Whether this connection may be cut or delayed."""
        with self.lock:
            if self.times is not None:
                if self.times <= 0:
                    return False
                self.times -= 1
            self.staged += 1
            return True


@contextmanager
def faulty(port: int) -> Iterator[tuple[int, Faults]]:
    """A proxy to a port of this machine; its own port, and its faults."""
    faults = Faults()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            client: socket.socket = self.request
            if faults.takes_refusal():
                with suppress(OSError):
                    client.recv(CHUNK)
                    client.sendall(FAILED)
                return
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
                up = threading.Thread(
                    target=_pump, args=(client, server, faults, "cut_request_after"), daemon=True
                )
                up.start()
                if faults.delay and faults.takes_fault():
                    time.sleep(faults.delay)
                _pump(server, client, faults, "cut_after")

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], faults
        server.shutdown()


def _pump(source: socket.socket, target: socket.socket, faults: Faults, limit: str) -> None:
    passed = 0
    with suppress(OSError):
        while data := source.recv(CHUNK):
            most: int | None = getattr(faults, limit)
            if most is not None and passed + len(data) > most and faults.takes_fault():
                target.sendall(data[: max(0, most - passed)])
                _reset(source)
                _reset(target)
                return
            target.sendall(data)
            passed += len(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _reset(connection: socket.socket) -> None:
    """Close so that the other side sees a reset, and not an end."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
