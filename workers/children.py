"""What a pool's child process does when it starts: watch its parent, and warm up."""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from typing import Any

import structlog
from celery.signals import worker_process_init

from datagen.errors import DeviceUnusable
from workers.context import generation

# Set by the worker's main process for its children, which inherit its environment.
PARENT = "DATAGEN_POOL_PARENT"
WARM_UP = "DATAGEN_POOL_WARM_UP"
LOOK_SECONDS = 0.5

log = structlog.get_logger()


@worker_process_init.connect
def watch_parent(**_: Any) -> None:
    """End this process when the worker's main process has died, however it died.

    On Linux the kernel does so too, but not for a child that was still starting.
    """
    parent = os.environ.get(PARENT)
    if parent is not None:
        threading.Thread(target=_watch, args=(int(parent),), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)


@worker_process_init.connect
def warm_up(**_: Any) -> None:
    """Load torch and the models before the first batch asks for them.

    A failure to load a model is logged by Celery, and the first batch tries again. But a worker
    without its device, or whose torch cannot be imported, can never make a batch: it must not take
    messages from workers that can, and its end is seen where a log line is not.
    """
    if os.environ.get(WARM_UP) is None:
        return
    try:
        importlib.import_module("datagen.work.generation")
    except Exception as error:  # noqa: BLE001 - whatever breaks it, no batch can be made here
        _end_worker(f"{type(error).__name__}: {error}")
        return
    try:
        generation()
    except DeviceUnusable as error:
        _end_worker(error.detail)


def _end_worker(reason: str) -> None:
    log.error("worker_unusable", reason=reason)
    os.kill(os.getppid(), signal.SIGTERM)
