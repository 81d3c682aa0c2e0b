"""`trialfleet` in the test's own process, for what would cost a second in one of its own."""

from __future__ import annotations

import sys

import pytest
import structlog

from trialfleet.cli.main import main


def command(*arguments: str) -> int:
    """Run it; its exit code. What it prints is for `capsys`, the environment is the test's."""
    kept = sys.argv
    sys.argv = ["trialfleet", *arguments]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.argv = kept
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
