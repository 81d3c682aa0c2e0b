"""A log line with a traceback: for people and for machines, and nothing a terminal acts on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from trialfleet.cli.show.logs import configure
from trialfleet.settings import Settings


@pytest.fixture(autouse=True)
def afterwards() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def logged(log_format: str, capsys: pytest.CaptureFixture[str]) -> str:
    configure(Settings(log_format=log_format))  # type: ignore[arg-type]
    secret = "not to be printed"
    try:
        raise ValueError("red \x1b[31m text")
    except ValueError as exc:
        structlog.get_logger().warning("it broke", study="x", exc_info=exc)
    assert secret
    return capsys.readouterr().err


def test_people_get_the_traceback_below_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    said = logged("console", capsys)
    assert "it broke" in said.splitlines()[0]
    assert "Traceback (most recent call last)" in said
    assert "ValueError: red \\x1b[31m text" in said
    assert "\x1b[31m" not in said
    assert said.count("not to be printed") == 0


def test_machines_get_it_as_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    entry = json.loads(logged("json", capsys))
    assert entry["event"] == "it broke"
    assert entry["exception"].startswith("Traceback (most recent call last)")
