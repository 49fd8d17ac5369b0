"""Where requests to addresses of users' may go."""

from __future__ import annotations

import socket
import threading
import time

import httpcore
import pytest
from receivers import Receiver, receiver

from datagen.errors import Forbidden
from datagen.service import addresses, outgoing

__all__ = ["receiver"]


def post(url: str, *, allow_private: bool = False) -> tuple[int, str]:
    headers = {"Host": "h", "Content-Length": "2"}
    return outgoing.post(url, b"{}", headers, allow_private=allow_private)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "[::1]", "[::ffff:7f00:1]", "0"]
)
def test_every_form_of_an_address_inside_is_refused(receiver: Receiver, host: str) -> None:
    with pytest.raises((Forbidden, httpcore.ConnectError)) as caught:
        post(f"http://{host}:{receiver.port}/")
    if isinstance(caught.value, Forbidden):
        assert "not public" in caught.value.detail


def test_name_that_answers_otherwise_the_second_time_is_not_asked_twice(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, port: int, *rest: object, **more: object) -> object:
        if host == "rebinding.example":
            asked.append(host)
            # First a public address, which does not answer here; then this machine.
            address = "203.0.113.1" if len(asked) == 1 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]
        return real(host, port, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "203.0.113.1")
    connected: list[str] = []
    monkeypatch.setattr(
        httpcore.SyncBackend,
        "connect_tcp",
        lambda _self, host, *_rest: connected.append(host) or _refuse(),
    )
    with pytest.raises(httpcore.ConnectError):
        post(f"http://rebinding.example:{receiver.port}/")
    assert (connected, len(asked)) == (["203.0.113.1"], 1)


def _refuse() -> None:
    raise httpcore.ConnectError("refused")


def test_redirects_are_not_followed_and_long_answers_not_read(receiver: Receiver) -> None:
    receiver.headers = {"Location": "http://127.0.0.1:1/"}
    receiver.answers = [302]
    assert post(receiver.url, allow_private=True)[0] == 302
    receiver.body, receiver.status = b"x" * 100_000, 200
    status, text = post(receiver.url, allow_private=True)
    assert (status, len(text)) == (200, outgoing.MOST_READ)


def test_receiver_that_drips_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "ANSWER_SECONDS", 1.0)
    stopped = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            for letter in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000:
                if stopped.wait(0.1):
                    return
                try:
                    connection.send(bytes([letter]))
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        dripping = threading.Thread(target=drip, args=(server,))
        dripping.start()
        began = time.monotonic()
        with pytest.raises(httpcore.ReadTimeout):
            post(f"http://127.0.0.1:{server.getsockname()[1]}/", allow_private=True)
        assert time.monotonic() - began < 10
        stopped.set()
        dripping.join()


def test_name_that_nobody_has_is_no_connection(receiver: Receiver) -> None:
    with pytest.raises(httpcore.ConnectError, match="is not found"):
        post("http://nosuch.invalid/")


def test_name_server_that_is_silent_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "ANSWER_SECONDS", 0.2)
    silent = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [silent.wait(30)][1:])
    began = time.monotonic()
    with pytest.raises(httpcore.ConnectError, match="was not found within"):
        post("http://slow.example/")
    assert time.monotonic() - began < 5
    silent.set()
