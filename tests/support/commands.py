"""`trialfleet` in the test's own process, for what would cost a second in one of its own."""

from __future__ import annotations

import signal
import sys
import threading

import pytest
import structlog

from trialfleet.cli.main import main

_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def command(*arguments: str) -> int:
    """Run it; its exit code. What it prints is for `capsys`, the environment is the test's."""
    kept = sys.argv
    handlers = {number: signal.getsignal(number) for number in _STOPS}
    sys.argv = ["trialfleet", *arguments]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.argv = kept
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
        # It logs to the standard error of this test, which the next one does not have.
        structlog.reset_defaults()
    return 0


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command which refused something has printed."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("trialfleet: ")
    assert captured.err.endswith("\n")
    line = captured.err[:-1]
    assert line.isprintable(), ascii(line)
    return line
