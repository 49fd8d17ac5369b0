"""What a pool's child process does when it starts: watch its parent, and warm up."""

from __future__ import annotations

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

    A failure is logged by Celery, and the first batch tries again; but a worker whose device is not
    there can never make one, and must not take messages from workers that can.
    """
    if os.environ.get(WARM_UP) is None:
        return
    try:
        generation()
    except DeviceUnusable as error:
        log.error("device_unusable", reason=error.detail)  # noqa: TRY400 - the sentence says it all
        os.kill(os.getppid(), signal.SIGTERM)
