"""The processes of the service: `up`, `api`, `worker`, `beat`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from datagen.cli.output import AsJson, note, print_json, say, usage_error
from datagen.queue import LIGHT_QUEUES, TORCH_QUEUES

if TYPE_CHECKING:
    from datagen.embedded import EmbeddedStack
    from datagen.settings import Settings

DEFAULT_PORT = 8000
KNOWN_QUEUES = (*TORCH_QUEUES, *LIGHT_QUEUES)

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[
    int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Worker processes; one a core by default.")
]


def up(
    host: Host = "127.0.0.1",
    port: Port = DEFAULT_PORT,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole service on this machine, until Ctrl-C."""
    from datagen.embedded import EmbeddedStack  # noqa: PLC0415 - only a stack of our own needs it

    settings = _settings(workers)
    with EmbeddedStack(settings, host=host, port=port) as stack:
        link = _sign_in_link(stack)
        if as_json:
            told = {"url": stack.url, "home": str(settings.home), "pid": os.getpid()}
            print_json(told | {"sign_in": link})
        else:
            say(f"datagen runs at {stack.url} with its state in {settings.home}")
            say(f"Open it in a browser, once: {link}")
            say("The command line and the client find it by themselves. Ctrl-C stops it.")
        sys.stdout.flush()
        stack.wait()


def _sign_in_link(stack: EmbeddedStack) -> str:
    from datagen.client import Client  # noqa: PLC0415 - as above

    with Client(stack.url, stack.api_key) as client:
        return client.sign_in_link().url


def sign_in(as_json: AsJson = False) -> None:
    """Print a link that opens the web page in a browser, once, within an hour."""
    from datagen.cli.connect import connected  # noqa: PLC0415 - as above

    with connected(must_run=True) as connection:
        link = connection.client.sign_in_link()
    print_json(link) if as_json else say(link.url)


def api(host: Host = "127.0.0.1", port: Port = DEFAULT_PORT) -> None:
    """Serve the HTTP API; database, broker and storage are those of the settings."""
    from datagen.api.serving import serve  # noqa: PLC0415 - the web framework is slow to load

    settings = _settings(None)
    if settings.broker_url is None:
        note("warning: DATAGEN_BROKER_URL names no broker; jobs are recorded and wait for one.")
    serve(settings, host, port)


def worker(
    queues: Annotated[
        str, typer.Option(help="Queues to serve: " + ", ".join(KNOWN_QUEUES) + ".")
    ] = ",".join(KNOWN_QUEUES),
    workers: Workers = None,
) -> None:
    """Work on the queues of the broker."""
    wanted = [name.strip() for name in queues.split(",")]
    unknown = [name for name in wanted if name not in KNOWN_QUEUES]
    if unknown:
        raise usage_error(
            f"--queues names {unknown[0]!r}; the queues are {', '.join(KNOWN_QUEUES)}."
        )
    _become("worker", "--queues", ",".join(wanted), workers=workers)


def beat() -> None:
    """Send the service's ticks: stale work is queued again, forgotten files are removed."""
    _become("beat", workers=None)


def _settings(workers: int | None) -> Settings:
    from datagen.settings import load_settings  # noqa: PLC0415 - slow to load

    return load_settings() if workers is None else load_settings(workers=workers)


def _become(*arguments: str, workers: int | None) -> NoReturn:
    if _settings(workers).broker_url is None:
        raise usage_error(
            "DATAGEN_BROKER_URL names no broker; set it to redis://…, or run all of datagen "
            "on this machine with `datagen up`."
        )
    count = [] if workers is None else ["--workers", str(workers)]
    # -P and PYTHONSAFEPATH: a folder named `workers` where the user stands must not win over ours.
    command = [sys.executable, "-P", "-m", "workers", *arguments, *count]
    sys.stdout.flush()
    os.execve(sys.executable, command, {**os.environ, "PYTHONSAFEPATH": "1"})  # noqa: S606
