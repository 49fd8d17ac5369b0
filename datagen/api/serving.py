"""Running the application with uvicorn."""

from __future__ import annotations

import gc
import socket

import uvicorn
from fastapi import FastAPI

from datagen.api.app import create_app
from datagen.api.logs import configure_logs
from datagen.api.preparation import has_keys
from datagen.client.address import is_loopback
from datagen.errors import InvalidRequest
from datagen.settings import Settings

DRAIN_SECONDS = 10
# Longer than clients (httpx: 5 s) and proxies (nginx: 60 s) keep a connection that says nothing:
# whoever closes it while the other begins to speak breaks a request.
KEEP_ALIVE_SECONDS = 75
BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        InvalidRequest: the port is taken, or the host is none of this machine's.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, address = found[0][0], found[0][4]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise InvalidRequest(
            f"Port {port} on {host} cannot be used ({error}); choose another with --port.",
            field="port",
        ) from error


def refuse_open_door(settings: Settings, host: str) -> None:
    """Do not listen beyond this machine while no key is set: whoever comes first would make one.

    Raises:
        InvalidRequest: the host is not loopback, and there is no key.
    """
    if is_loopback(host) or settings.api_key is not None or has_keys(settings):
        return
    raise InvalidRequest(
        f"--host {host} opens the API to other machines and no key is configured; "
        "set DATAGEN_API_KEY.",
        field="host",
    )


class Server(uvicorn.Server):
    """Ends what would stay open for ever before it waits for its connections."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams of events, then as uvicorn does."""
        await self.config.app.state.events.close()  # type: ignore[union-attr]  # it is ours
        await super().shutdown(sockets)


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; requests in flight are finished.

    Raises:
        InvalidRequest: the port is taken, or the door would be open without a key.
    """
    configure_logs()
    refuse_open_door(settings, host)
    run(create_app(settings, host=host), bind(host, port), DRAIN_SECONDS)


def run(app: FastAPI, listener: socket.socket, drain_seconds: int) -> None:
    """Serve an application on a listening socket until a signal; closes the socket.

    Args:
        app: what `create_app` made.
        listener: where requests come.
        drain_seconds: how long requests in flight have to end.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=drain_seconds,
    )
    # What is loaded stays: a full collection that went through all of it would hold up every
    # request for a tenth of a second, again and again.
    gc.collect()
    gc.freeze()
    with listener:
        Server(config).run(sockets=[listener])
