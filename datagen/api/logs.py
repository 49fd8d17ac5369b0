"""Logs as JSON lines on standard error, with keys and passwords struck out."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog

_KEY = re.compile(r"dg_([0-9A-Za-z]+)_[0-9A-Za-z_-]+")
_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")

_SHARED: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def redacted(text: str) -> str:
    """The text without the secret part of API keys and without passwords in URLs."""
    return _PASSWORD.sub(r"\1***@", _KEY.sub(r"dg_\1_***", text))


class _JsonLines(structlog.stdlib.ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


# Through the standard library's logging, and not structlog's own default, which prints on standard
# output: there a command's JSON answer stands alone.
log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("datagen.api"),
    processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    wrapper_class=structlog.stdlib.BoundLogger,
)


def configure_logs(level: int = logging.INFO) -> None:
    """Send every log line of this process, the web server's too, to standard error as JSON."""
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(
        _JsonLines(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[lines], level=level, force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
