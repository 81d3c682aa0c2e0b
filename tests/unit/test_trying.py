"""`check` tries what a study names in another process, which may do whatever it likes."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.support.studyfiles import in_table
from trialfleet.cli.trying import try_task
from trialfleet.errors import StudyFileError
from trialfleet.postgres.waiting import wait_until
from trialfleet.study.file import parse
from trialfleet.study.task import Task

ENVIRONMENTS = """
import os, sys, time
import gymnasium, numpy as np

class Odd(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, way="good", render_mode=None):
        self.way = way
        print("made")
        if way == "hang":
            time.sleep(3600)
        if way == "server":
            import subprocess
            server = subprocess.Popen(["sleep", "600"])
            open("server.pid", "w").write(str(server.pid))
        if way == "exit":
            os._exit(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.see() if self.way == "bare" else (self.see(), {})

    def see(self):
        if self.way == "random":
            return np.frombuffer(os.urandom(2), np.uint8).astype(np.float32)
        if self.way == "nan":
            return np.full(2, np.nan, np.float32)
        if self.way == "shape":
            return np.zeros(3, np.float32)
        if self.way == "scalar":
            return 0.5
        if self.way == "nothing":
            return None
        if self.way == "ragged":
            return [[1], [1, 2]]
        if self.way == "wide":
            return np.full(2, 1e300)
        if self.way == "list":
            return [0.5, 0.5]
        return self.np_random.random(2).astype(np.float32)

    def step(self, action):
        if self.way == "raise":
            raise RuntimeError("boom\\nboom")
        reward = eval(self.way.partition("reward=")[2] or "1.0")
        return self.see(), reward, False, False, {}

gymnasium.register("Odd-v0", Odd, max_episode_steps=5)

def train(run):
    return 1.0
"""


ODD = 'task.env: "oddities:Odd-v0"'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "oddities.py").write_text(ENVIRONMENTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def task(lines: str) -> Task:
    return parse(in_table("task", lines), source="x").task


@pytest.mark.usefixtures("folder")
def test_what_hangs_is_not_waited_for() -> None:
    hangs = task('env = "oddities:Odd-v0"\nenv_args = { way = "hang" }')
    with pytest.raises(StudyFileError, match="did not come back within 4 s when it was made"):
        try_task(hangs, patience=4)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("exit", "task.env: 'oddities:Odd-v0': exit code 3"),
        (
            "raise",
            'task.env: "oddities:Odd-v0" cannot be stepped: RuntimeError: boom boom (oddities'
            ".py, line 46, in step)",
        ),
        ("nan", 'task.env: "oddities:Odd-v0" shows numbers that are not finite'),
        ("shape", f"{ODD} shows an observation of shape (3,) where its space says (2,)"),
        ("scalar", f"{ODD} shows an observation of shape () where its space says (2,)"),
        ("nothing", f"{ODD} shows None; must show numbers, as its space says"),
        ("ragged", f"{ODD} shows [[1], [1, 2]]; must show numbers"),
        ("wide", f"{ODD} shows numbers such as 1e+300, which 32-bit floats cannot hold"),
        ("bare", f"{ODD}: reset() returns ndarray; must return (observation, info), as Gymn"),
        ("reward=None", f"{ODD} gives the reward None; must be a single number"),
        ("reward='1'", f"{ODD} gives the reward '1'; must be a single number"),
        ("reward=np.array([1.0])", f"{ODD} gives the reward array([1.]); must be a single number"),
        ("reward=[1.0]", f"{ODD} gives the reward [1.0]; must be a single number"),
        ("reward=np.inf", f"{ODD} gives rewards that are not finite"),
        ("reward=1e39", f"{ODD} gives rewards such as 1e+39, which 32-bit floats cannot hold"),
        ("reward=-1e39", f"{ODD} gives rewards such as -1e+39, which 32-bit floats cannot hold"),
    ],
)
def test_what_does_not_work_is_told(way: str, says: str) -> None:
    with pytest.raises(StudyFileError) as refused:
        try_task(task(f'env = "oddities:Odd-v0"\nenv_args = {{ way = "{way}" }}'))
    assert str(refused.value).startswith(says)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "way", ["list", "reward=3", "reward=True", "reward=np.float32(1)", "reward=np.array(1.0)"]
)
def test_other_forms_of_numbers_will_do(way: str) -> None:
    assert try_task(task(f'env = "oddities:Odd-v0"\nenv_args = {{ way = "{way}" }}')).actions == 2


def test_what_it_starts_is_not_waited_for_and_ends_with_it(folder: Path) -> None:
    """A program that it starts has the process's output, as a simulator does."""
    starts = task('env = "oddities:Odd-v0"\nenv_args = { way = "server" }')
    assert try_task(starts, patience=60).observation_size == 2
    pid = int((folder / "server.pid").read_text())
    assert wait_until(lambda: not psutil.pid_exists(pid), 20.0, pause=0.02)


@pytest.mark.usefixtures("folder")
def test_one_that_cannot_be_repeated_is_warned_of() -> None:
    good = try_task(task('env = "oddities:Odd-v0"'))
    assert (good.observation_size, good.actions, good.max_episode_steps) == (2, 2, 5)
    assert good.warnings == ()
    odd = try_task(task('env = "oddities:Odd-v0"\nenv_args = { way = "random" }'))
    assert "the same seed and actions did not show the same twice" in odd.warnings[0]


@pytest.mark.usefixtures("folder")
def test_a_function_is_looked_for() -> None:
    assert try_task(task('objective = "oddities:train"')).warnings == ()
    with pytest.raises(StudyFileError, match=r"task\.objective: .*trainn is not there"):
        try_task(task('objective = "oddities:trainn"'))


@pytest.mark.usefixtures("folder")
def test_only_what_may_be_imported_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALFLEET_ALLOW_IMPORT", "other")
    with pytest.raises(StudyFileError, match="may not be imported here"):
        try_task(task('env = "oddities:Odd-v0"'))
