"""What a terminal shows: which display, whose lines, which colours."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from rich.console import Console

from trialfleet.cli.show import logs
from trialfleet.cli.show.display import LiveDisplay, PlainDisplay, make_display
from trialfleet.settings import Settings


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    yield Terminal()
    structlog.reset_defaults()


@pytest.mark.parametrize(("term", "kind"), [("xterm", LiveDisplay), ("dumb", PlainDisplay)])
def test_a_terminal_that_cannot_redraw_gets_lines(
    monkeypatch: pytest.MonkeyPatch, term: str, kind: type
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("trialfleet.cli.show.display.finished", lambda *_: [])
    nothing: Any = type("Study", (), {"search_id": 1})
    display = make_display(Console(file=Terminal()), None, nothing)  # type: ignore[arg-type]
    assert isinstance(display, kind)
    display.close()


def test_log_lines_stand_above_the_live_picture(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal)  # here: pytest sets its own after the fixtures
    logs.configure(Settings())
    log = structlog.get_logger()
    console = Console(file=terminal, width=200)
    display = LiveDisplay(console, None, None)  # type: ignore[arg-type]
    try:
        for number in range(10):
            log.warning("worker died", number=number)
            display._live.update(f"picture {number}", refresh=True)
    finally:
        display.close()
    shown = terminal.getvalue()
    # rich moves up and redraws; what is logged ends its line before the picture comes again.
    lines = [line for line in shown.splitlines() if "worker died" in line]
    assert len(lines) == 10
    assert all("picture" not in line.split("worker died")[1] for line in lines)


@pytest.mark.parametrize(
    ("name", "value", "coloured"),
    [("NO_COLOR", "1", False), ("TERM", "dumb", False), ("TERM", "xterm", True)],
)
def test_log_lines_are_coloured_where_that_is_wanted(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, name: str, value: str, coloured: bool
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", terminal)
    logs.configure(Settings())
    structlog.get_logger().warning("worker died", code=1)
    assert ("\x1b[" in terminal.getvalue()) is coloured
