"""Logging for people (console) or for machines (JSON lines), always to stderr."""

from __future__ import annotations

import sys

import structlog
from structlog.typing import EventDict

from trialfleet.escape import printable
from trialfleet.settings import Settings


def _printable(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Escape what a terminal would act on: hosts, reasons and paths are others' text."""
    return {
        key: printable(value) if isinstance(value, str) else value for key, value in event.items()
    }


def configure(settings: Settings) -> None:
    """Set up structlog for this process."""
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if settings.log_format == "json":
        processors.append(structlog.processors.JSONRenderer())
    else:
        processors.append(_printable)
        processors.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    structlog.configure(
        processors=processors, logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )
