"""The studies that come with it: a worker can make what they name, and one is run whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.processes import Commands
from trialfleet.cli.trying import try_task
from trialfleet.study.file import load

ROOT = Path(__file__).parents[2]
NEEDS = {"lunarlander": "Box2D", "digits": "sklearn", "ppo": "stable_baselines3"}
SHORT = {
    "task.train_steps": 400,
    "task.eval_every": 200,
    "task.eval_episodes": 1,
    "task.score_episodes": 2,
    "agent.learning_starts": 50,
    "agent.normalize": '"running"',
    "search.trials": 2,
    "search.pruner": '"none"',
    "final.top": 1,
    "final.confirm": 3,
    "final.episodes": 2,
}


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.toml")), ids=lambda p: p.stem)
def test_what_it_names_can_be_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(NEEDS.get(path.stem, "torch"))
    monkeypatch.chdir(ROOT)
    assert not try_task(load(path).task).warnings


def test_an_environment_with_all_that_can_be_around_it(commands: Commands) -> None:
    """Constructor's argument, wrapper with another, a dictionary observed, a running scale."""
    there = commands.folder / "studies"
    there.mkdir()
    for name in ("grid.py", "grid.toml"):
        shutil.copy(ROOT / "studies" / name, there)
    changes = [word for field, value in SHORT.items() for word in ("--set", f"{field}={value}")]
    commands.run("run", "studies/grid.toml", "--workers", "1", *changes)
    assert "equal to the bit" in commands.run("replay", "grid", "1").stdout
    # Who stays in the room loses a hundredth 60 times, by the wrapper; the key is worth a half.
    model = "models/grid.safetensors"
    played = commands.run("evaluate", model, "--episodes", "20").stdout
    assert "studies.grid:Grid-v0: mean return -0." in played
    assert "lowest -0.600" in played
    commands.run("play", model, "--output", "grid.gif")
    assert (commands.folder / "grid.gif").read_bytes().startswith(b"GIF8")
