"""Bad input ends every command with exit code 2 and one line: what is wrong, and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.models import saved_agent
from tests.support.processes import Commands
from tests.support.studies import create, trivial_study
from trialfleet.store import studies
from trialfleet.store.storage import Database

REMEDY_FILE = "Correct the named field of the study file"
REMEDY_USAGE = "See the command's --help"
REMEDY_STANDS = "See `trialfleet status` for where the study stands"
REMEDY_NAME = "Check the study's name with `trialfleet status`"

STUDY_FILES = {
    "misspelt": (
        trivial_study().replace("gamma", "gama"),
        ["study.toml: agent.gama", "unknown key"],
    ),
    "out_of_range": (trivial_study(trials=0), ["study.toml: search.trials", "0"]),
    "not_toml": ('name = "x"\n\n[task\n', ["study.toml: line 3", "TOML"]),
    "unknown_env": (
        trivial_study(env="CartPole-v7"),
        ["study.toml: task.env", '"CartPole-v7" is not a registered version', "CartPole-v1"],
    ),
    "continuous_actions": (
        trivial_study(env="Pendulum-v1"),
        ["study.toml: task.env", "Box action space", "DQN needs Discrete actions"],
    ),
    "no_module": (
        trivial_study(env="no_such_module:Env-v0"),
        ["study.toml: task.env", "no_such_module", "cannot be imported"],
    ),
}

LEAVING = """
import sys
import gymnasium


class Leaving(gymnasium.Env):
    def __init__(self):
        sys.exit(0)


gymnasium.register("Leaving-v0", entry_point=Leaving, max_episode_steps=8)
"""


def refused(commands: Commands, *arguments: str, says: list[str], **env: str) -> None:
    """The command ends with exit code 2 and one line that says all of this."""
    line = commands.run(*arguments, code=2, env=env).error_line
    assert line.startswith("trialfleet: ")
    for words in says:
        assert words in line
    assert commands.started[-1].stdout == ""


@pytest.mark.parametrize("name", STUDY_FILES)
def test_a_wrong_study_file(tmp_path: Path, name: str) -> None:
    # Told before any database is looked for.
    commands = Commands(tmp_path, None)
    content, says = STUDY_FILES[name]
    commands.study_file(content)
    remedy = "Correct the TOML of the study file there" if name == "not_toml" else REMEDY_FILE
    refused(commands, "run", "study.toml", says=[*says, remedy])
    assert not (tmp_path / ".trialfleet").exists()


@pytest.mark.parametrize("command", ["check", "run", "coordinate"])
def test_a_study_file_that_is_not_there(tmp_path: Path, command: str) -> None:
    commands = Commands(tmp_path, None)
    says = ["none.toml: no such file. Give the path of a study file that can be read"]
    refused(commands, command, "none.toml", says=says)


@pytest.mark.parametrize("command", ["check", "coordinate"])
def test_a_wrong_study_file_for_every_command_that_takes_one(tmp_path: Path, command: str) -> None:
    commands = Commands(tmp_path, None)
    content, says = STUDY_FILES["misspelt"]
    refused(commands, command, commands.study_file(content), says=[*says, REMEDY_FILE])


def test_an_environment_that_ends_the_process_instead_of_being_made(tmp_path: Path) -> None:
    commands = Commands(tmp_path, None)
    (tmp_path / "leaving.py").write_text(LEAVING)
    file = commands.study_file(trivial_study(env="leaving:Leaving-v0"))
    refused(commands, "check", file, says=["study.toml: task.env", "leaving:Leaving-v0"])


@pytest.mark.parametrize("arguments", [["worker"], ["status"], ["best"], ["replay", "0"]])
def test_a_study_that_nobody_created(commands: Commands, arguments: list[str]) -> None:
    command, *rest = arguments
    says = ["no study is called 'cartpole'", REMEDY_NAME]
    # A worker gives its coordinator this long to create the study.
    patience = {"TRIALFLEET_MIGRATION_PATIENCE": "0"}
    refused(commands, command, "cartpole", *rest, says=says, **patience)


def test_a_worker_says_what_it_waits_for(commands: Commands) -> None:
    found = commands.run("worker", "cartpole", code=2, env={"TRIALFLEET_MIGRATION_PATIENCE": "0.1"})
    assert "waiting for the study to be created" in found.stdout + found.stderr


def test_a_study_that_is_not_named_where_there_is_none(commands: Commands) -> None:
    refused(commands, "best", says=["not exactly one to choose from (none)", REMEDY_USAGE])


def test_what_an_unfinished_study_does_not_have(commands: Commands, database: Database) -> None:
    create(database)
    refused(
        commands, "best", says=["study 'trivial' has no winner (it is at 'search')", REMEDY_STANDS]
    )
    refused(commands, "replay", "trivial", "0", says=["has no trial 0"])
    refused(commands, "replay", "trivial", "0", "--final", says=["has no final stage yet"])


SETTINGS = {
    "malformed_url": (
        {"TRIALFLEET_DATABASE_URL": "postgresql//user:hunter2@host/x"},
        ["database URL: cannot be parsed", "postgresql://USER:PASSWORD@HOST:5432/DATABASE"],
    ),
    "other_database": (
        {"TRIALFLEET_DATABASE_URL": "mysql://user:hunter2@host/x"},
        ["database URL: 'mysql' is not supported", "use postgresql://"],
    ),
    "lease_is_no_number": (
        {"TRIALFLEET_LEASE_SECONDS": "soon"},
        ["TRIALFLEET_LEASE_SECONDS: Input should be a valid number"],
    ),
    "lease_is_too_short": (
        {"TRIALFLEET_LEASE_SECONDS": "0"},
        ["TRIALFLEET_LEASE_SECONDS: Input should be greater than or equal to 1"],
    ),
    "unknown_device": ({"TRIALFLEET_DEVICE": "tpu"}, ["TRIALFLEET_DEVICE", "'cuda'"]),
    "no_secret_file": (
        {"TRIALFLEET_DATABASE_URL_FILE": "/run/secrets/none"},
        ["TRIALFLEET_DATABASE_URL_FILE: cannot read '/run/secrets/none'", "No such file"],
    ),
    "no_database": ({}, ["no database: set TRIALFLEET_DATABASE_URL", ".trialfleet"]),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_wrong_setting(tmp_path: Path, name: str) -> None:
    env, says = SETTINGS[name]
    commands = Commands(tmp_path, None)
    refused(commands, "status", says=[*says, REMEDY_USAGE], **env)
    assert "hunter2" not in commands.started[-1].stderr


def test_a_wrong_artifact_store(commands: Commands) -> None:
    file = commands.study_file(trivial_study())
    says = ["TRIALFLEET_ARTIFACTS: 'ftp://host' is not an artifact store", "file:///FOLDER"]
    refused(commands, "run", file, says=says, TRIALFLEET_ARTIFACTS="ftp://host")


def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    commands = Commands(tmp_path, None)
    file = commands.study_file(trivial_study())
    env = {"TRIALFLEET_DATABASE_URL": "postgresql://user:hunter2@127.0.0.1:1/x"}
    for arguments in (["status"], ["run", file]):
        line = commands.run(*arguments, code=5, env=env).error_line
        assert "PostgreSQL at 127.0.0.1" in line
        assert "Connection refused" in line
        assert "Check that PostgreSQL is up" in line
        assert "hunter2" not in line


@pytest.mark.parametrize("taken", [".trialfleet", "models"])
def test_a_file_in_the_way_of_what_a_run_writes(
    commands: Commands, database: Database, taken: str
) -> None:
    (commands.folder / taken).write_text("")
    refused(commands, "run", commands.study_file(trivial_study()), says=[taken, "Free what"])
    assert studies.find_all(database) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it stands for a full disk")
def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    for arguments in (["--version"], ["check", "study.toml"]):
        (tmp_path / "study.toml").write_text(trivial_study())
        with Path("/dev/full").open("w") as full:
            process = subprocess.run(
                [sys.executable, "-P", "-m", "trialfleet.cli", *arguments],
                cwd=tmp_path,
                env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert process.returncode == 2
        assert process.stderr.startswith("trialfleet: No space left on device. Free what")
        assert process.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_terminal_that_knows_only_ascii(commands: Commands) -> None:
    file = commands.study_file(trivial_study())
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    checked = commands.run("check", file, env=ascii_only)
    assert "2 agents x " in checked.stdout
    commands.run("run", file, env=ascii_only)
    best = commands.run("best", "trivial", env=ascii_only)
    assert " fresh seeds x " in best.stdout
    for shown in (checked.stdout, best.stdout):
        assert shown.isascii()


def test_a_damaged_model(tmp_path: Path) -> None:
    commands = Commands(tmp_path, None)
    path = saved_agent(tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    says = ["agent.safetensors: its bytes do not match the SHA-256 of its manifest", REMEDY_USAGE]
    refused(commands, "evaluate", "agent.safetensors", says=says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run"], "Missing argument 'STUDY.toml'"),
        (["run", "study.toml", "--workers", "0"], "Invalid value for '--workers'"),
        (["replay", "cartpole", "seven"], "Invalid value for 'number'"),
        (["evaluate", "x.safetensors", "--episodes", "-1"], "Invalid value for '--episodes'"),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_a_wrong_command_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    process = Commands(tmp_path, None).run(*arguments, code=2)
    assert says in process.stderr
    assert "--help" in process.stderr
    assert "Traceback" not in process.stderr
