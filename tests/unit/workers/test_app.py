from __future__ import annotations

import sys
from pathlib import Path

import pytest
from celery import Celery
from celery.app.defaults import DEFAULTS

from datagen import queue
from datagen.errors import InvalidRequest
from datagen.settings import Settings
from workers.app import InstalledLoader, celery_settings, make_app

# Named by Celery's documentation beside the two transport options, and read by none of its code.
DOCUMENTED_ONLY = {"visibility_timeout"}


@pytest.fixture
def settings() -> Settings:
    return Settings(broker_url="redis://127.0.0.1:1/0")


@pytest.fixture
def app(settings: Settings) -> Celery:
    return make_app(settings)


def test_every_setting_is_one_that_the_installed_celery_knows(settings: Settings) -> None:
    assert set(celery_settings(settings)) - DOCUMENTED_ONLY <= set(DEFAULTS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_acks_late", True),
        ("task_reject_on_worker_lost", True),
        ("worker_prefetch_multiplier", 1),
        ("task_ignore_result", True),
        ("task_serializer", "json"),
        ("accept_content", ["json"]),
        ("result_backend", None),
        ("broker_connection_retry_on_startup", True),
        ("worker_pool_start_method", "spawn"),
        ("task_create_missing_queues", False),
        ("worker_cancel_long_running_tasks_on_connection_loss", False),
        ("worker_enable_remote_control", False),
        ("beat_scheduler", "celery.beat:Scheduler"),
    ],
)
def test_effective_setting(app: Celery, name: str, value: object) -> None:
    assert app.conf[name] == value


def test_soft_shutdown_ends_before_an_orchestrator_loses_patience(app: Celery) -> None:
    assert 0 < app.conf.worker_soft_shutdown_timeout < 10


def test_children_end_some_day_and_have_time_to_start(app: Celery) -> None:
    assert app.conf.worker_max_tasks_per_child > 0
    assert app.conf.worker_max_memory_per_child > 0
    assert app.conf.worker_proc_alive_timeout >= 60


def test_no_task_may_run_for_half_the_time_after_which_its_message_is_sent_again(
    app: Celery,
) -> None:
    timeouts = {
        app.conf.broker_transport_options["visibility_timeout"],
        app.conf.result_backend_transport_options["visibility_timeout"],
        app.conf["visibility_timeout"],
    }
    assert timeouts == {queue.VISIBILITY_SECONDS}
    assert app.conf.task_time_limit < queue.VISIBILITY_SECONDS / 2


def test_the_queues_and_no_other(app: Celery) -> None:
    assert set(app.amqp.queues) == {
        "preview", "quick", "interactive", "bulk", "train", "control", "export", "deliver",
    }  # fmt: skip
    assert {named.exchange.type for named in app.amqp.queues.values()} == {"direct"}


def test_every_task_has_its_queue(app: Celery) -> None:
    routed = {name: app.amqp.router.route({}, name)["queue"].name for name in queue.QUEUE_OF}
    assert routed == queue.QUEUE_OF


def test_results_are_kept_nowhere(app: Celery) -> None:
    assert type(app.backend).__name__ == "DisabledBackend"


def test_a_pool_child_gets_the_same_settings(app: Celery) -> None:
    # Celery hands the application to a spawned child in this very way.
    rebuild, arguments = app.__reduce__()
    copy = rebuild(*arguments)
    assert copy.conf.worker_prefetch_multiplier == 1
    assert copy.conf.include == app.conf.include
    assert isinstance(copy.loader, InstalledLoader)
    assert not copy.fixups


def test_without_a_broker_the_variable_is_named() -> None:
    with pytest.raises(InvalidRequest, match="DATAGEN_BROKER_URL"):
        make_app(Settings())


def test_a_folder_in_the_current_directory_does_not_win(
    app: Celery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "colour_of_the_current_directory.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    with pytest.raises(ModuleNotFoundError):
        app.loader.import_from_cwd("colour_of_the_current_directory")
