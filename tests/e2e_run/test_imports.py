"""What a user's folder holds never stands in for our modules, and its environments are found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import Commands
from tests.support.studies import trivial_study

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


@pytest.mark.slow
def test_the_workers_of_a_run_find_them_too(folder: Path, commands: Commands) -> None:
    assert commands.folder == folder
    picture = {"TRIALFLEET_WINNER_GIF": "1"}
    run = commands.run("run", "study.toml", "--workers", "1", env=picture, cold=True)
    assert "winner: trial 0" in run.stdout
    assert "saved: models/mine.gif" in run.stdout
    assert (folder / "models" / "mine.gif").read_bytes().startswith(b"GIF89a")
