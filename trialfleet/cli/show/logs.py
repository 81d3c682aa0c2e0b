"""Logging for people (console) or for machines (JSON lines), always to stderr."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo

from trialfleet.escape import printable
from trialfleet.settings import Settings


def _printable(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Escape what a terminal would act on: hosts, reasons and paths are others' text."""
    return {
        key: printable(value) if isinstance(value, str) else value for key, value in event.items()
    }


def _traceback(out: TextIO, exc_info: ExcInfo) -> None:
    """Print a traceback, escaped as all else is.

    Without the variables of each frame: they are long, and hold what nobody should print.
    """
    text = "".join(traceback.format_exception(*exc_info))
    out.write("\n" + "\n".join(map(printable, text.splitlines())))


def configure(settings: Settings) -> None:
    """Set up structlog for this process."""
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if settings.log_format == "json":
        processors.append(structlog.processors.format_exc_info)
        processors.append(structlog.processors.JSONRenderer())
    else:
        processors.append(_printable)
        processors.append(
            structlog.dev.ConsoleRenderer(colors=_colours(), exception_formatter=_traceback)
        )
    structlog.configure(processors=processors, logger_factory=_Stderr)


class _Stderr:
    """Prints to what stderr is at the moment: a live display puts itself in its place.

    Made for each logger, with whatever structlog hands to a factory.
    """

    def __init__(self, *_arguments: object) -> None:
        pass

    def msg(self, message: str) -> None:
        """One line."""
        sys.stderr.write(message + "\n")
        sys.stderr.flush()

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def _colours() -> bool:
    """Whether stderr shows colours, and nobody has asked for none (https://no-color.org)."""
    return (
        sys.stderr.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") not in ("dumb", "unknown")
    )
