"""`python -P -m workers worker` and `python -P -m workers beat`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from datagen.errors import DatagenError
from datagen.queue import CONTROL, DELIVERIES, LIGHT_QUEUES, QUICK_QUEUES, TORCH_QUEUES
from datagen.scratch import sweep_scratch
from datagen.settings import Settings, load_settings

QUEUES = (*TORCH_QUEUES, *LIGHT_QUEUES)
# An export keeps a process busy for minutes; a second one keeps the next export from waiting.
LIGHT_PROCESSES = 2
CONTROL_THREADS = 2
# They wait for others' servers. Four owners whose receivers are silent fill them.
DELIVERY_THREADS = 16
# A second process on a device only adds a context and competes for its memory.
GPU_PROCESSES = 1
BAD_SETTINGS = 78


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker or beat until a signal ends it; returns the exit code."""
    options = _parser().parse_args(arguments)
    # Children that Celery spawns are new interpreters: a folder `workers` where the user stands
    # must not win over ours in them either.
    os.environ["PYTHONSAFEPATH"] = "1"
    # Orchestrators send SIGTERM. As SIGQUIT it means: a few seconds to finish, then give back.
    os.environ["REMAP_SIGTERM"] = "SIGQUIT"
    try:
        settings = load_settings()
        if options.command == "beat":
            return _beat(settings, options.log_level)
        if options.nice is not None:
            os.nice(options.nice)
        return _worker(settings, options.queues, options.workers, options.log_level)
    except DatagenError as error:
        sys.stderr.write(f"{error.detail}\n")
        return BAD_SETTINGS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -P -m workers", description=__doc__)
    parser.add_argument(
        "--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR")
    )
    commands = parser.add_subparsers(dest="command", required=True)
    worker = commands.add_parser("worker", help="work on queues")
    worker.add_argument("--queues", type=_queue_names, default=QUEUES, metavar="NAME,NAME")
    worker.add_argument("--workers", type=_count, help="worker processes")
    worker.add_argument(
        "--nice", type=_count, help="let programs go first that somebody waits for; see nice(1)"
    )
    commands.add_parser("beat", help="send the ticks")
    return parser


def _queue_names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in QUEUES]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r} is no queue; the queues are {', '.join(QUEUES)}"
        )
    return names


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} is less than 1")
    return count


def _worker(settings: Settings, queues: Sequence[str], count: int | None, log_level: str) -> int:
    from workers import children  # noqa: PLC0415 - Celery reads the environment when imported
    from workers.app import make_app  # noqa: PLC0415

    sweep_scratch()
    pool, processes = pool_of(settings, queues, count)
    os.environ[children.PARENT] = str(os.getpid())
    if set(queues) & set(TORCH_QUEUES):
        os.environ[children.WARM_UP] = "1"
        # The children share the cores among them, and read from the settings how many they are.
        share_of_cores = processes
        if set(queues) <= set(QUICK_QUEUES):
            # A few images are made sooner by one thread than by several that wait for a core.
            share_of_cores = _default_processes(settings.model_copy(update={"device": "cpu"}))
        os.environ["DATAGEN_WORKERS"] = str(share_of_cores)
    name = f"{'-'.join(queues)}-{os.getpid()}@{platform.node()}"
    app = make_app(settings, name)
    worker = app.Worker(
        hostname=name,
        queues=list(queues),
        pool=pool,
        concurrency=processes,
        loglevel=log_level,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def pool_of(settings: Settings, queues: Sequence[str], count: int | None) -> tuple[str, int]:
    """Kind and size of the pool for these queues.

    Work that may be killed, leak or run for long has processes of its own. The ticks are short
    transactions that the next tick repeats, and deliveries wait: threads do for them, and spare
    the memory of processes.
    """
    if set(queues) & set(TORCH_QUEUES):
        return "prefork", count or settings.workers or _default_processes(settings)
    if set(queues) <= {CONTROL, DELIVERIES}:
        threads = DELIVERY_THREADS if DELIVERIES in queues else 0
        return "threads", count or threads + (CONTROL_THREADS if CONTROL in queues else 0)
    return "prefork", count or LIGHT_PROCESSES


def _default_processes(settings: Settings) -> int:
    if settings.device != "cpu" and any(Path("/dev").glob("nvidia[0-9]*")):
        return GPU_PROCESSES
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _beat(settings: Settings, log_level: str) -> int:
    from workers.app import make_app  # noqa: PLC0415 - Celery reads the environment when imported

    make_app(settings).Beat(loglevel=log_level, quiet=True).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
