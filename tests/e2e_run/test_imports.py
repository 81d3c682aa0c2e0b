"""What a user's folder holds never stands in for our modules, and its environments are found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import Commands
from tests.support.studies import trivial_study
from trialfleet.cli.join import study_wanted

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

gymnasium.register("My-v0", entry_point=CartPoleEnv, max_episode_steps=20)
"""
# Names that our own modules have, or had, or import.
SHADOWS = ["cli", "worker", "coordinator", "migrations", "tuning", "optuna", "alembic"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder: an environment, and modules with the names of ours."""
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the folder')\n")
    (tmp_path / "myenvs.py").write_text(ENVIRONMENT)
    (tmp_path / "study.toml").write_text(
        trivial_study(name="mine", env="myenvs:My-v0", trials=1, top=1, final_seeds=1)
    )
    (tmp_path / "script").mkdir()
    # What pip makes of `[project.scripts]`.
    (tmp_path / "script" / "trialfleet").write_text(
        "from trialfleet.cli.main import main\nmain()\n"
    )
    return tmp_path


WAYS = {
    "module": ["-P", "-m", "trialfleet.cli"],
    "module_without_P": ["-m", "trialfleet.cli"],
    "script": ["script/trialfleet"],
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_start_finds_the_same(folder: Path, way: str) -> None:
    checked = subprocess.run(
        [sys.executable, *WAYS[way], "check", "study.toml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "myenvs:My-v0: 4 observations" in checked.stdout


def test_a_folder_on_the_path_stands_in_for_none_of_ours(folder: Path) -> None:
    for name in ("optuna", "alembic"):
        (folder / f"{name}.py").unlink()  # PYTHONPATH may replace what is not ours: it asks for it
    checked = subprocess.run(
        [sys.executable, "-P", "-m", "trialfleet.cli", "check", "study.toml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.fixture
def apart(folder: Path) -> Path:
    """The same with study and environment in a folder of their own, and one that stands nearer."""
    beside = folder / "studies"
    beside.mkdir()
    for name in ("myenvs.py", "study.toml"):
        (folder / name).rename(beside / name)
    (beside / "optuna.py").write_text("raise SystemExit('optuna.py beside the study')\n")
    return folder


def check(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args, "check", "studies/study.toml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_module_beside_the_study_is_found(apart: Path, way: str) -> None:
    checked = check(apart, *WAYS[way])
    assert checked.returncode == 0, checked.stderr
    assert "myenvs:My-v0: 4 observations" in checked.stdout


def test_the_current_folder_comes_before_that_of_the_study(apart: Path) -> None:
    (apart / "myenvs.py").write_text("raise SystemExit('myenvs.py beside you')\n")
    assert "myenvs.py beside you" in check(apart, *WAYS["script"]).stderr


def test_who_finds_no_module_says_where_it_has_looked(apart: Path) -> None:
    (apart / "studies" / "myenvs.py").unlink()
    checked = check(apart, *WAYS["script"])
    assert checked.returncode == 2
    assert f"here {apart} or {apart}/studies, on other machines the one" in checked.stderr
    assert "Traceback" not in checked.stderr


def test_a_worker_that_is_given_the_file_finds_it(
    apart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(apart)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("TRIALFLEET_STUDY_FOLDER", "")  # which has it unset afterwards
    monkeypatch.setattr("trialfleet.checking.imports._folders", ())
    name, _ = study_wanted("studies/study.toml")
    assert name == "mine"
    assert sys.path[-1] == str(apart / "studies")


@pytest.mark.slow
def test_the_workers_of_a_run_find_what_lies_beside_the_study(
    apart: Path, commands: Commands
) -> None:
    picture = {"TRIALFLEET_WINNER_GIF": "1"}
    run = commands.run("run", "studies/study.toml", "--workers", "1", env=picture, cold=True)
    assert "winner: trial 0" in run.stdout
    assert "saved: models/mine.gif" in run.stdout


@pytest.mark.slow
def test_the_workers_of_a_run_find_them_too(folder: Path, commands: Commands) -> None:
    assert commands.folder == folder
    picture = {"TRIALFLEET_WINNER_GIF": "1"}
    run = commands.run("run", "study.toml", "--workers", "1", env=picture, cold=True)
    assert "winner: trial 0" in run.stdout
    assert "saved: models/mine.gif" in run.stdout
    assert (folder / "models" / "mine.gif").read_bytes().startswith(b"GIF89a")
