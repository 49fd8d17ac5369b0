"""The programs of the stack, each with its command line and its environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from datagen.embedded import valkey
from datagen.embedded.children import Program
from datagen.queue import CONTROL, DELIVERIES, EXPORT, QUICK_QUEUES, TORCH_QUEUES
from datagen.settings import Settings

BROKER = "valkey"
API = "api"
WORKER = "worker"
QUICK_WORKER = "quick-worker"
DELIVERER = "deliver-worker"
EXPORTER = "export-worker"
TICKER = "control-worker"
BEAT = "beat"

# The ticks would fill their logs with lines that say nothing.
_LOG_LEVEL = {TICKER: ("--log-level", "WARNING"), BEAT: ("--log-level", "WARNING")}
# The API and the worker of previews and small jobs go first where the cores are busy.
_NICE = ("--nice", "5")
_DEATHS_BEFORE_HEALING = 2
# Stopped in this order: those who send work and do it, then the broker that they speak to.
_FIRST, _LAST = 0, 1


def environment(settings: Settings) -> dict[str, str]:
    """Our environment with exactly these settings, for a process in any current directory."""
    kept = {
        name: value
        for name, value in os.environ.items()
        # Celery reads some variables over the settings that it is given.
        if not name.startswith(("DATAGEN_", "CELERY_"))
    }
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if value is not None:
            plain = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            kept[f"DATAGEN_{name.upper()}"] = plain
    # A folder named `workers` or `migrations` where the user stands must not win over ours.
    return kept | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def broker(state: Path, socket: Path, variables: Mapping[str, str], lock: int) -> Program:
    """The Valkey server.

    Raises:
        Unavailable: there is none for this machine.
    """

    def heal(deaths: int) -> None:
        # Once may be chance. A log that cannot be read stops the server again and again.
        if deaths == _DEATHS_BEFORE_HEALING:
            valkey.set_damaged_log_aside(state)

    return Program(
        name=BROKER,
        command=valkey.command(valkey.find_binary(), state, socket),
        environment=variables,
        pass_fds=(lock,),
        stop_turn=_LAST,
        before_restart=heal,
    )


def api(host: str, listener: int, variables: Mapping[str, str], lock: int) -> Program:
    """The API, on a socket that is ours: a restart loses neither the port nor who waits on it."""
    return Program(
        name=API,
        command=_module("datagen.embedded.server", "--host", host, "--fd", str(listener)),
        environment=variables,
        pass_fds=(listener, lock),
        stop_turn=_FIRST,
    )


def workers(
    variables: Mapping[str, str], lock: int, *, torch: bool, quick: bool = True
) -> list[Program]:
    """The workers and beat; exports, ticks and deliveries have workers of their own, so none waits.

    Args:
        variables: their environment.
        lock: of the home, which they keep.
        torch: whether there are those that make images.
        quick: whether one of these is kept for previews and small jobs.
    """
    keeps_quick = torch and quick
    nice = _NICE if keeps_quick else ()
    one = ("--workers", "1")
    wanted: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
    if torch:
        wanted.append((WORKER, TORCH_QUEUES, nice))
    if keeps_quick:
        wanted.append((QUICK_WORKER, QUICK_QUEUES, one))
    wanted.append((EXPORTER, (EXPORT,), (*one, *nice)))
    wanted.append((TICKER, (CONTROL,), ()))
    wanted.append((DELIVERER, (DELIVERIES,), ()))
    programs = [
        _program(name, variables, lock, "worker", "--queues", ",".join(queues), *options)
        for name, queues, options in wanted
    ]
    programs.append(_program(BEAT, variables, lock, "beat"))
    return programs


def _program(name: str, variables: Mapping[str, str], lock: int, *arguments: str) -> Program:
    return Program(
        name=name,
        command=_module("workers", *_LOG_LEVEL.get(name, ()), *arguments),
        environment=variables,
        pass_fds=(lock,),
        stop_turn=_FIRST,
    )


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", name, *arguments]
