"""Commands on a machine where an extra is not installed, or where its user is nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.invariants import check_invariants
from tests.support.processes import Commands
from tests.support.studies import create, take, train_by_hand, trivial_study
from trialfleet.store.storage import Database

# What only the extra `worker` brings; what the other extras bring may have some of it.
EVERYTHING = ("torch", "threadpoolctl", "scipy", "cmaes", "numba")
# An arbitrary user id, as some clusters give each container: no HOME, no entry in the passwd.
NOBODY = """
import os, pwd

def unknown(who):
    raise KeyError(f"unknown: {who}")

pwd.getpwuid = pwd.getpwnam = unknown
for name in ("HOME", "USER", "LOGNAME", "USERNAME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
    os.environ.pop(name, None)
"""
MISSING = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


def without(folder: Path, *names: str) -> dict[str, str]:
    """The environment of an interpreter that finds none of these packages."""
    return customized(folder, MISSING.format(names=names))


def customized(folder: Path, code: str) -> dict[str, str]:
    """The environment of an interpreter that runs this code before any other."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(folder / "site")}


@pytest.mark.parametrize("names", [EVERYTHING, ("torch",)])
@pytest.mark.parametrize("words", ["worker trivial", "replay trivial 0"])
def test_who_trains_says_which_extra_is_missing(
    commands: Commands, database: Database, words: str, names: tuple[str, ...]
) -> None:
    study = create(database, seeds=1)
    train_by_hand(database, study, take(database), scores=[1.0])
    line = commands.run(*words.split(), code=2, env=without(commands.folder, *names)).error_line
    assert line.startswith("trialfleet: ")
    assert 'is not installed: pip install "trialfleet[worker]"' in line


def test_who_evaluates_says_it_too(commands: Commands) -> None:
    missing = without(commands.folder, *EVERYTHING)
    line = commands.run("evaluate", "agent.safetensors", code=2, env=missing).error_line
    assert 'threadpoolctl is not installed: pip install "trialfleet[worker]"' in line


def test_a_run_without_the_extra_ends_at_once(commands: Commands) -> None:
    file = commands.study_file(trivial_study())
    run = commands.run(
        "run", file, "--workers", "1", code=1, env=without(commands.folder, *EVERYTHING)
    )
    assert "worker died" not in run.stderr
    assert "exit code 2; its log is" in run.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_user_whom_the_system_does_not_know_can_run_a_study(
    commands: Commands, database: Database
) -> None:
    file = commands.study_file(trivial_study(trials=2, top=1))
    # Machine code takes a minute to make, and has no place to be kept.
    nobody = {**customized(commands.folder, NOBODY), "TRIALFLEET_COMPILED": "false"}
    run = commands.run("run", file, "--workers", "1", env=nobody)
    assert "FAIL" not in run.stderr
    check_invariants(database, "trivial")
    model = next((commands.folder / "models").glob("*.safetensors"))
    commands.run("evaluate", str(model), "--episodes", "1", env=nobody)
    commands.run("replay", "trivial", "0", env=nobody)
