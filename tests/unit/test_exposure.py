"""Pages without a password: who reaches them, and that nobody does by accident."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from coordinator.exposure import is_loopback, warning
from trialfleet.cli.main import app
from trialfleet.errors import UsageError


@pytest.mark.parametrize("command", ["dashboard", "tensorboard"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_another_address_than_loopback_needs_a_word_of_its_own(command: str, host: str) -> None:
    refused = CliRunner().invoke(app, [command, "--host", host])
    assert isinstance(refused.exception, UsageError)
    assert refused.exception.exit_code == 2
    assert str(refused.exception).startswith(f"--host {host}: ")
    assert "--expose" in str(refused.exception)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_needs_none(host: str) -> None:
    assert is_loopback(host)
    assert warning(host, 80, "sees all") is None


def test_what_is_exposed_is_said() -> None:
    told = warning("0.0.0.0", 8080, "sees every study")
    assert told is not None
    assert "http://0.0.0.0:8080/" in told
    assert "sees every study" in told
