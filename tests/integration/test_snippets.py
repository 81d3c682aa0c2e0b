"""Every Python snippet of the guides runs, and does what its page says of it."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from safetensors.numpy import save

from coordinator.certainty import certainty
from tests.integration.test_exports import done
from tests.support.server import plain
from tests.support.studies import trivial_spec
from trialfleet.cli.agent.card import Played, model_card
from trialfleet.store.storage import Database
from trialfleet.training import Result, Run
from worker.trainers.dqn.saved import SavedAgent, export_onnx, export_sb3, play_saved
from worker.trainers.environment import Environment, make_one

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Keys out of order in the space, and in another order in what is observed; a wrapper.
ROOM = """
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete


class Room(gymnasium.Env):
    def __init__(self, size=3):
        self.observation_space = Dict(
            {
                "walls": Box(-9.0, 9.0, (2, 2), np.float32),
                "key": Discrete(size),
                "at": MultiDiscrete([4, 5]),
            }
        )
        self.action_space = Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.seen(), {}

    def step(self, action):
        return self.seen(), float(action), bool(self.np_random.random() < 0.2), False, {}

    def seen(self):
        walls = self.np_random.normal(size=(2, 2)).astype(np.float32)
        at, key = self.np_random.integers([4, 5]), int(self.np_random.integers(3))
        return {"at": at, "walls": walls, "key": key}


class Cost(gymnasium.RewardWrapper):
    def __init__(self, env, cost):
        super().__init__(env)
        self.cost = cost

    def reward(self, reward):
        return reward - self.cost


gymnasium.register("Room-v0", entry_point=Room, max_episode_steps=60)
"""
CARTPOLE = {"env": "CartPole-v1"}
DICTIONARY = {
    "env": "room:Room-v0",
    "env_args": {"size": 3},
    "max_episode_steps": 20,
    "wrappers": [{"name": "room:Cost", "cost": 0.25}],
}


def snippets(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def of_page(name: str) -> list[str]:
    return snippets((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module of an environment."""
    (tmp_path / "room.py").write_text(ROOM, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "room", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arrays_for(task: dict[str, Any], *, scaled: bool) -> dict[str, Any]:
    """An agent's networks, drawn at random."""
    env = make_one(Environment.of_task(task))
    assert isinstance(env.observation_space, Box)
    assert isinstance(env.action_space, Discrete)
    size, actions = env.observation_space.shape[0], int(env.action_space.n)
    env.close()
    rng = np.random.default_rng(5)
    arrays: dict[str, Any] = {}
    for layer, (inputs, outputs) in enumerate(pairwise([size, 8, 8, actions])):
        arrays[f"q.{layer}.weight"] = rng.normal(size=(outputs, inputs)).astype(np.float32)
        arrays[f"q.{layer}.bias"] = rng.normal(size=outputs).astype(np.float32)
    if scaled:
        arrays["observation.mean"] = rng.normal(size=size).astype(np.float32)
        arrays["observation.factor"] = rng.uniform(0.2, 5.0, size).astype(np.float32)
    return arrays


@pytest.mark.parametrize("scaled", [False, True], ids=["as it is", "normalized"])
@pytest.mark.parametrize("task", [CARTPOLE, DICTIONARY], ids=["vector", "dictionary"])
def test_an_agent_taken_elsewhere_acts_as_it_does_here(
    folder: Path, capsys: pytest.CaptureFixture[str], task: dict[str, Any], scaled: bool
) -> None:
    """docs/agent.md, with the name of the environment and what is around it."""
    environment = Environment.of_task(task)
    arrays = arrays_for(task, scaled=scaled)
    agent, data = SavedAgent(arrays), save(arrays)
    home = folder / "models"
    home.mkdir()
    (home / "cartpole.safetensors").write_bytes(data)
    manifest = {"sha256": hashlib.sha256(data).hexdigest(), "task": task}
    (home / "cartpole.json").write_text(json.dumps(manifest), encoding="utf-8")
    (home / "cartpole.zip").write_bytes(export_sb3(arrays, environment, {}))
    (home / "cartpole.onnx").write_bytes(export_onnx(arrays, {}))
    made = 'gymnasium.make("CartPole-v1")'
    if task is DICTIONARY:
        inside = 'gymnasium.make("room:Room-v0", size=3, max_episode_steps=20)'
        around = f'__import__("room").Cost({inside}, cost=0.25)'
    else:
        around = made
    env_block, sb3, onnx, numpy = of_page("agent")
    assert env_block.count(made) == 1
    names: dict[str, Any] = {}
    exec(env_block.replace(made, around), names)
    ours = make_one(environment)
    for seed in range(20):  # the snippets' own observation, and others
        observation, _ = names["env"].reset(seed=seed)
        expected, _ = ours.reset(seed=seed)
        assert np.array_equal(observation, expected)
        action = int(agent.act(expected[None])[0])
        names["observation"] = observation
        for block in (onnx, numpy):
            names.pop("action", None)
            exec(block, names)
            assert int(names["action"]) == action
    exec(sb3, names)
    for seed in range(20):
        expected, _ = ours.reset(seed=seed)
        theirs, _ = names["model"].predict(names["env"].reset(seed=seed)[0], deterministic=True)
        assert int(theirs) == int(agent.act(expected[None])[0])
    mean, _ = eval(capsys.readouterr().out.splitlines()[-1])
    assert np.isfinite(mean)


@pytest.mark.parametrize("task", [CARTPOLE, DICTIONARY], ids=["vector", "dictionary"])
def test_the_snippets_of_a_model_card_run(
    folder: Path,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task: dict[str, Any],
) -> None:
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(database.url))
    study = done(database)
    given = trivial_spec().task.model_copy(
        update={name: tuple(value) if name == "wrappers" else value for name, value in task.items()}
    )
    study.__dict__["spec"] = study.spec.model_copy(update={"task": given})
    arrays = arrays_for(task, scaled=False)
    (folder / "trivial.zip").write_bytes(export_sb3(arrays, Environment.of_task(task), {}))
    (folder / "trivial.onnx").write_bytes(export_onnx(arrays, {}))
    sure = certainty([0.5, 1.0, 1.5], None)
    played = Played(episodes=3, mean=1.0, deviation=0.5, certainty=sure)
    sb3, onnx = snippets(model_card(study, played, files={"trivial.zip", "trivial.onnx"}))
    names: dict[str, Any] = {}
    exec(sb3, names)
    assert "(" in capsys.readouterr().out
    exec(onnx, names)
    first, _ = make_one(Environment.of_task(task)).reset(seed=0)
    assert int(names["action"]) == int(SavedAgent(arrays).act(first[None])[0])
    # What is around the environment is around it there, too.
    returns = play_saved(arrays, Environment.of_task(task), seed=5, episodes=1)
    assert np.isfinite(returns).all()
    if task is DICTIONARY:
        assert "env = Cost(env, cost=0.25)" in sb3
        assert "max_episode_steps=20" in sb3


def own_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/own-training.md: the function with stand-ins for what is yours, then the trial of it."""
    function, trial = of_page("own-training")
    done: list[tuple[int, int]] = []
    names: dict[str, Any] = {
        "make": lambda parameters, seed: {"seed": seed},
        "load": lambda models, data: None,
        "train_until": lambda step, model, seed: done.append((step, seed)),
        "accuracy": lambda model: 0.5,
        "dump": lambda models: b"models",
        "dump_one": lambda model: b"model",
    }
    exec(function, names)
    result = names["train"](Run(parameters={}, seeds=[1, 2], train_steps=3, eval_every=1))
    assert isinstance(result, Result)
    assert [step for step, _ in done] == [1, 1, 2, 2, 3, 3]
    assert len({seed for _, seed in done}) == 6
    if find_spec("sklearn") is None:
        small_digits(monkeypatch)
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.delitem(sys.modules, "studies.digits", raising=False)
    exec(trial, {})


def small_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of scikit-learn as studies/digits.py uses, where it is not installed."""
    rng = np.random.default_rng(0)
    images, labels = rng.uniform(0, 16, (60, 64)), rng.integers(0, 10, 60)
    parts: dict[str, dict[str, Any]] = {
        "sklearn": {},
        "sklearn.datasets": {"load_digits": lambda **_: (images, labels)},
        "sklearn.model_selection": {
            "train_test_split": lambda *given, **_: [
                part for each in given for part in (each[:40], each[40:])
            ]
        },
    }
    for name, values in parts.items():
        module = ModuleType(name)
        module.__dict__.update(values, __spec__=ModuleSpec(name, None))
        monkeypatch.setitem(sys.modules, name, module)


def notebook(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/notebook.md: both ways set the URL."""
    colab = ModuleType("google.colab")
    colab.__dict__["userdata"] = {"TRIALFLEET_DATABASE_URL": "postgresql://a"}
    monkeypatch.setitem(sys.modules, "google", ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: "postgresql://b")
    for block, url in zip(of_page("notebook"), ("postgresql://a", "postgresql://b"), strict=True):
        monkeypatch.delenv("TRIALFLEET_DATABASE_URL", raising=False)
        names: dict[str, Any] = {}
        exec(block, names)
        assert names["os"].environ["TRIALFLEET_DATABASE_URL"] == url


def environments(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/environments.md; tests/e2e_run/test_guides.py trains in it."""
    [module] = of_page("environments")
    (folder / "corridor.py").write_text(module, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "corridor", raising=False)
    env = make_one(Environment.of_task({"env": "corridor:Corridor-v0"}))
    env.reset(seed=0)
    assert env.step(np.int64(1))[1] == pytest.approx(-0.05)


PAGE_RUNNERS: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "own-training": own_training,
    "notebook": notebook,
    "environments": environments,
}


@pytest.mark.parametrize("page", PAGE_RUNNERS)
def test_the_snippets_of_a_page_run(
    page: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PAGE_RUNNERS[page](folder, monkeypatch)


def test_no_page_has_a_snippet_that_is_not_run() -> None:
    have = {page.stem for page in PAGES if snippets(page.read_text(encoding="utf-8"))}
    # That of steering.md makes an Optuna study, which tests/e2e_run/test_guides.py imports.
    assert have == {"agent", "steering", *PAGE_RUNNERS}
