"""The README is true: its commands run as they stand there, and what it points to is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.processes import Commands
from tests.support.studies import trivial_study

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
OURS = [command for command in COMMANDS if command.startswith("trialfleet ")]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Commands]:
    """A folder with small studies under the names of those that come with Trialfleet."""
    (tmp_path / "studies").mkdir()
    for path in (ROOT / "studies").glob("*.toml"):
        text = trivial_study(name=path.stem, race=True, final_seeds=2, confirm=2)
        (tmp_path / "studies" / path.name).write_text(text, encoding="utf-8")
    with closing(Commands(tmp_path, None)) as starter:
        yield starter


def test_every_command_is_of_a_kind_that_is_run_here_or_in_containers() -> None:
    first = {shlex.split(command)[0] for command in COMMANDS}
    assert first == {
        "trialfleet",
        "make",
        "python",
        "docker",
        "STUDY=studies/cartpole.toml",
        "export",
    }
    assert len(OURS) > 5


def test_the_commands_run_in_their_order(folder: Commands) -> None:
    """On one embedded PostgreSQL in the folder, as for a user who has set no database URL."""
    coordinators = []
    for command in OURS:
        arguments = shlex.split(command)[1:]
        if arguments[0] in ("dashboard", "tensorboard"):
            continue  # serves until it is stopped; tests of their own open the pages
        if arguments[0] == "coordinate":
            coordinators.append(folder.start(*arguments))  # ends with the study, as the worker does
        else:
            folder.run(*arguments)
    assert [process.wait() for process in coordinators] == [0]
    assert (folder.folder / "models" / "demo.safetensors").is_file()


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("make ")])
def test_the_make_targets_are_there(command: str) -> None:
    dry = subprocess.run([*shlex.split(command), "-n"], cwd=ROOT, capture_output=True, check=False)
    assert dry.returncode == 0, dry.stderr.decode()


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("python ")])
def test_the_benchmarks_take_these_options(command: str) -> None:
    arguments = [*shlex.split(command)[1:], "--help"]
    asked = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, check=False, text=True
    )
    assert asked.returncode == 0, asked.stderr
    for option in re.findall(r" (--[a-z0-9-]+)", command):
        assert option in asked.stdout


def test_the_map_has_every_folder() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    folders = {line.split("/")[0] for line in tracked.stdout.splitlines() if "/" in line}
    missing = {name for name in folders - {".ci"} if f"[{name}/]({name})" not in README}
    assert missing == set()
