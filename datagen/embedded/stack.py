"""The stack as one thing: started, asked for its address and key, waited for, stopped."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from datagen.db.migrate import upgrade
from datagen.db.session import open_engine, writing
from datagen.embedded import programs, valkey
from datagen.embedded.children import REPORTED_DEATHS, Program, Supervisor
from datagen.embedded.home import Home, Workers
from datagen.errors import DatagenError, HomeUnusable, InvalidRequest, Unavailable
from datagen.service import keys, models
from datagen.settings import Settings
from datagen.storage import open_storage

READY_SECONDS = 60.0
LOOK_SECONDS = 0.05
BACKLOG = 2048
LOCAL_OWNER = "local"
LOCAL_SCOPES = ("read", "write", "admin")
ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - read, not bound
TERMINATED = 128 + signal.SIGTERM


class EmbeddedStack:
    """Everything that datagen needs on one machine, for as long as this object runs.

    Use it as a context manager, or call `start` and `stop`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        workers: Workers = Workers.ALL,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            settings: the home, and everything that is not to be found under it.
            host: address that the API listens on.
            port: its port; 0 takes a free one.
            workers: which of them to start.
            on_event: told in a sentence what somebody should know, such as a program that keeps
                dying; standard error if None.
        """
        self.settings = settings
        self._host, self._port = host, port
        self._workers = workers
        self._on_event = on_event or _to_standard_error
        self._home: Home | None = None
        self._listener: socket.socket | None = None
        self._supervisor: Supervisor | None = None
        self._url: str | None = None
        self._api_key: str | None = None

    @property
    def url(self) -> str:
        """The API's base URL, once started."""
        return _started(self._url)

    @property
    def api_key(self) -> str:
        """The key of the local owner, once started."""
        return _started(self._api_key)

    @property
    def pids(self) -> dict[str, int]:
        """The programs that run at this moment, each with the id of its first process."""
        children = self._supervisor.children if self._supervisor else []
        return {child.program.name: child.pid for child in children if child.pid is not None}

    def start(self) -> None:
        """Start everything; returns when the API answers that all parts are ready.

        Raises:
            HomeUnusable: the state folder cannot be written, or another stack runs on it.
            InvalidRequest: the port is taken, or the host is none of this machine's.
            Unavailable: there is no broker for this machine, or a part did not become ready.
        """
        try:
            with _termination_unwinds():
                self._start()
        except OSError as error:
            self.stop()
            raise HomeUnusable(
                f"The state folder {self.settings.home} cannot be written: "
                f"{error.strerror or error}; free space there, or name another one in DATAGEN_HOME."
            ) from error
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        self._home = Home(self.settings.home)
        self._home.withdraw()
        self._listener = _listen(self._host, self._port)
        self._api_key = self._prepare(self._home)
        self._supervisor = Supervisor(
            self._programs(self._home, self._listener), self._home.logs, self._on_event
        )
        self._supervisor.start()
        self._url = _url_of(self._listener)
        self._wait_until_ready(self._supervisor, self._listener)
        self._home.announce(self._url, self._workers)

    def _prepare(self, home: Home) -> str:
        upgrade(self.settings.database)
        engine = open_engine(self.settings.database)
        try:
            with writing(engine) as session:
                # Before the workers start, so that they find the model that they warm up with.
                models.ensure_bundled(session, open_storage(self.settings.storage))

            def works(key: str) -> bool:
                try:
                    with writing(engine) as session:
                        return "admin" in keys.authenticate(session, key).scopes
                except DatagenError:
                    return False

            def make() -> str:
                with writing(engine) as session:
                    return keys.create_key(session, LOCAL_OWNER, LOCAL_SCOPES)

            return home.key(works=works, make=make)
        finally:
            engine.dispose()

    def _programs(self, home: Home, listener: socket.socket) -> list[Program]:
        settings = self.settings
        if self._workers == Workers.NONE:
            variables = programs.environment(settings)
            return [programs.api(self._host, listener.fileno(), variables, home.lock)]
        own_broker = settings.broker_url is None
        path = valkey.socket_path(home.valkey)
        if own_broker:
            settings = settings.model_copy(update={"broker_url": valkey.broker_url(path)})
        variables = programs.environment(settings)
        # Every program holds the lock too: the home is free when the last of them has ended.
        listed = [programs.broker(home.valkey, path, variables, home.lock)] if own_broker else []
        listed.append(programs.api(self._host, listener.fileno(), variables, home.lock))
        torch = self._workers == Workers.ALL
        # Where one process with torch is all there may be, it does everything.
        quick = settings.workers != 1
        return listed + programs.workers(variables, home.lock, torch=torch, quick=quick)

    def _wait_until_ready(self, supervisor: Supervisor, listener: socket.socket) -> None:
        # Without workers nothing is sent, so no broker needs to be ready.
        path = "/healthz" if self._workers == Workers.NONE else "/readyz"
        deadline = time.monotonic() + READY_SECONDS
        missing = "no answer"
        while time.monotonic() < deadline:
            ready, missing = _ask(listener, path, self.api_key)
            if ready:
                return
            for name in (programs.API, programs.BROKER):
                self._give_up_on(supervisor, name)
            time.sleep(LOOK_SECONDS)
        raise Unavailable(
            f"The stack was not ready within {READY_SECONDS:g} seconds: {missing}; the logs in "
            f"{self.settings.home / 'logs'} say more."
        )

    @staticmethod
    def _give_up_on(supervisor: Supervisor, name: str) -> None:
        child = next((one for one in supervisor.children if one.program.name == name), None)
        if child is not None and child.deaths > REPORTED_DEATHS:
            raise Unavailable(f"{name} does not start: {child.last_words()} (see {child.log})")

    def wait(self) -> None:
        """Return when a signal asks to stop: SIGINT, SIGTERM or SIGHUP. Main thread only."""
        asked = threading.Event()

        def stop(_number: int, _frame: FrameType | None) -> None:
            asked.set()

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            asked.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Stop everything that was started and free the home; may be called more than once."""
        if self._home is not None:
            self._home.withdraw()
        if self._supervisor is not None:
            self._supervisor.stop()
            self._supervisor = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._home is not None:
            valkey.remove_socket_folder(self._home.valkey)
            self._home.release()
            self._home = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _started(value: str | None) -> str:
    if value is None:
        raise Unavailable("The stack has not been started; call start() or use it in a with block.")
    return value


def _to_standard_error(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")


@contextmanager
def _termination_unwinds() -> Iterator[None]:
    """Turn SIGTERM into an exception, where nobody has, so that what was started is stopped."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, address = found[0][0], found[0][4]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise InvalidRequest(
            f"Port {port} on {host} cannot be used ({error}); choose another with --port.",
            field="port",
        ) from error


def _address(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return ANY_HOST.get(host, host), port


def _url_of(listener: socket.socket) -> str:
    host, port = _address(listener)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _ask(listener: socket.socket, path: str, key: str) -> tuple[bool, str]:
    """Whether the API is ready, and what it says if it is not; no proxy stands between."""
    connection = http.client.HTTPConnection(*_address(listener), timeout=5.0)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        body: Any = json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        return False, f"the API does not answer ({type(error).__name__})"
    finally:
        connection.close()
    if answer.status == http.client.OK:
        return True, ""
    parts = body.get("parts", {}) if isinstance(body, dict) else {}
    named = [f"{part}: {state}" for part, state in parts.items() if state != "ok"]
    return False, "; ".join(named) or f"status {answer.status}"
