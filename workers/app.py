"""The Celery application and its settings, each with the failure that it is there for."""

from __future__ import annotations

import importlib
import re
from types import ModuleType
from typing import Any

from celery import Celery
from celery.loaders.app import AppLoader
from kombu.entity import Queue

from datagen.errors import InvalidRequest
from datagen.queue import (
    CONTROL,
    HARD_LIMIT_SECONDS,
    LIGHT_QUEUES,
    QUEUE_OF,
    TORCH_QUEUES,
    VISIBILITY_SECONDS,
    WORKER_NAME,
)
from datagen.settings import Settings
from workers import transport
from workers.schedules import beat_schedule

# Below the 10 seconds that orchestrators commonly give, and longer than a batch takes.
SOFT_SHUTDOWN_SECONDS = 4.0
# Importing torch on a machine whose cores are all busy takes far longer than Celery's 4 seconds.
CHILD_START_SECONDS = 180.0
# A leak, if a library has one, ends with its process; a new process costs some seconds of a core.
TASKS_PER_CHILD = 5_000
KILOBYTES_PER_CHILD = 6 * 1024 * 1024


class InstalledLoader(AppLoader):  # type: ignore[misc]  # Celery has no types
    """Imports the installed packages; Celery's own puts the current directory first."""

    def import_from_cwd(
        self,
        module: str,
        imp: object = None,  # noqa: ARG002 - the signature is Celery's
        package: str | None = None,
    ) -> ModuleType:
        """Import without a look at the current directory."""
        return importlib.import_module(module, package)


def make_app(settings: Settings, name: str | None = None) -> Celery:
    """The application for these settings; pool children get a copy of it.

    Args:
        settings: where the broker is.
        name: of the worker, which its connections to the broker then carry.

    Raises:
        InvalidRequest: the settings name no broker.
    """
    if settings.broker_url is None:
        raise InvalidRequest(
            "DATAGEN_BROKER_URL names no broker; set it to redis://… or run `datagen up`.",
            field="DATAGEN_BROKER_URL",
        )
    transport.install()
    app = Celery(
        "datagen",
        loader=InstalledLoader,
        # The only one there is looks for Django and puts the current directory first.
        fixups=[],
    )
    app.conf.update(celery_settings(settings, name))
    return app


def celery_settings(settings: Settings, name: str | None = None) -> dict[str, Any]:
    """Every setting of Celery that datagen relies on."""
    return _delivery() | _queues() | _broker(settings, name) | _pool() | _beat(settings) | _quiet()


def _delivery() -> dict[str, Any]:
    return {
        # A message is acknowledged when its task has ended, so it outlives the worker that had it.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        # The database knows what came of a task. No backend also means that nothing waits for one.
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "result_backend": None,
        "result_expires": None,
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_time_limit": HARD_LIMIT_SECONDS,
        # A task that goes on records its work; the message that comes again finds it done.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }


def _queues() -> dict[str, Any]:
    return {
        "task_queues": [_queue(name) for name in (*TORCH_QUEUES, *LIGHT_QUEUES)],
        "task_create_missing_queues": False,
        "task_default_queue": CONTROL,
        "task_routes": {task: {"queue": queue} for task, queue in QUEUE_OF.items()},
        "include": ["workers.tasks", "workers.children"],
    }


def _queue(name: str) -> Queue:
    return Queue(name, routing_key=name)  # type: ignore[no-untyped-call]


def _broker(settings: Settings, name: str | None) -> dict[str, Any]:
    visibility = {"visibility_timeout": VISIBILITY_SECONDS}
    # A name may hold no spaces and nothing beyond ASCII.
    shown = None if name is None else WORKER_NAME + re.sub(r"[^!-~]", "-", name)
    return {
        "broker_url": settings.broker_url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A broker that is full or loads its data answers with an error and recovers.
        "broker_channel_error_retry": True,
        "broker_transport_options": {
            **visibility,
            "client_name": shown,
            "queue_order_strategy": transport.QuickFirst,
            "socket_connect_timeout": 5.0,
            # Without it a publish waits for ever on a broker that was stopped or cut off.
            "socket_timeout": 30.0,
        },
        "result_backend_transport_options": visibility,
        "visibility_timeout": VISIBILITY_SECONDS,
        # Nothing here is steered through the broker, so nobody else can do it either.
        "worker_enable_remote_control": False,
        "worker_detect_quorum_queues": False,
    }


def _pool() -> dict[str, Any]:
    return {
        # A forked child of a parent in which torch has run once can hang.
        "worker_pool_start_method": "spawn",
        "worker_proc_alive_timeout": CHILD_START_SECONDS,
        "worker_soft_shutdown_timeout": SOFT_SHUTDOWN_SECONDS,
        "worker_max_tasks_per_child": TASKS_PER_CHILD,
        "worker_max_memory_per_child": KILOBYTES_PER_CHILD,
    }


def _beat(settings: Settings) -> dict[str, Any]:
    return {
        "beat_schedule": beat_schedule(settings),
        # The schedule has intervals only. Kept in memory it needs no file, and no pickle in one.
        "beat_scheduler": "celery.beat:Scheduler",
        "enable_utc": True,
        "timezone": "UTC",
    }


def _quiet() -> dict[str, Any]:
    return {
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        # Redirected, every line of ours would become a warning inside a warning.
        "worker_redirect_stdouts": False,
        "worker_log_color": False,
    }
