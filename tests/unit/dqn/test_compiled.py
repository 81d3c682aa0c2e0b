"""The compiled training against the one with PyTorch, in every environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from tests.unit.dqn.settings import PARAMS
from tests.unit.dqn.short import ends, evaluations, fingerprint, numbers, training
from worker.trainers.dqn import compiled
from worker.trainers.dqn.builtin_envs import world_of
from worker.trainers.dqn.compiled import environments, learning, vectors
from worker.trainers.dqn.compiled.products import padded
from worker.trainers.environment import Environment, Wrapping
from worker.trainers.protocol import Evaluation, NonFiniteError, Progress, Score

COMPILED = ["CartPole-v1", "Acrobot-v1", "MountainCar-v0"]
EVERY = [*COMPILED, "FrozenLake-v1"]

# Fields that take another way through the arithmetic, or through the loop.
OTHERS: dict[str, dict[str, Any]] = {
    "as they are": {},
    "mse, no double Q": {"loss": "mse", "double_q": False},
    "target follows": {"tau": 0.1, "target_update_interval": 7},
    "clipped": {"max_grad_norm": 0.05},
    "memory wraps, rounds straddle": {"buffer_size": 60, "train_freq": 7, "gradient_steps": 3},
    "as many updates as steps": {"train_freq": 50, "gradient_steps": -1},
    "one hidden layer": {"net_arch": (33,)},
    "three, of unlike widths": {"net_arch": (8, 40, 3)},
    "wide": {"net_arch": (250, 300), "batch_size": 24, "train_freq": 20},
    "running scale": {"normalize": "running"},
    "fixed scale": {"normalize": "fixed"},
}


@pytest.mark.parametrize("env_id", EVERY)
@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_it_learns_what_the_plain_training_learns(changes: dict[str, Any], env_id: str) -> None:
    """The same draws, and roundings that have had little time to grow."""
    params = replace(PARAMS, learning_starts=200, **changes)
    plain, other = (
        training(params=params, env_id=env_id, compiled=which) for which in (False, True)
    )
    for running in (plain, other):
        list(running._train())  # one segment
    wanted, found = plain.state(), other.state()
    assert wanted.keys() == found.keys()
    assert wanted["agent.updates"] == found["agent.updates"] > 0
    assert np.array_equal(wanted["replay.position"], found["replay.position"])
    for name, array in wanted.items():
        # What agents remember is what they did: a single other action would show.
        assert np.allclose(array, found[name], rtol=2e-3, atol=2e-4), name
    assert torch.allclose(plain._agent.loss_sum, other._agent.loss_sum, rtol=1e-3)


@pytest.mark.parametrize("env_id", COMPILED)
def test_its_environments_are_gymnasiums(env_id: str) -> None:
    """To the bit: starts, what is seen of them, and steps far beyond where an episode ends."""
    env = gymnasium.make(env_id, disable_env_checker=True).unwrapped
    world = world_of(env_id)
    assert world is not None
    number = environments.NUMBERS[world.name]
    states, seen = world.starts(np.random.default_rng(3), 100)
    rng = np.random.default_rng(4)
    for episode, (state, first) in enumerate(zip(states, seen, strict=True)):
        observation, _ = env.reset(seed=3 if episode == 0 else None)
        assert first.tobytes() == observation.tobytes()
        for action in rng.integers(world.actions, size=120):
            observation, reward, terminated, _, _ = env.step(int(action))
            assert environments.step(number, state, action, environments.TWO) == (
                reward,
                terminated,
            )
            environments.observe(number, state, first)
            assert first.tobytes() == observation.tobytes()
            theirs = np.array(env.state)  # type: ignore[attr-defined]
            assert np.array_equal(state, theirs)
            if terminated and env_id == "CartPole-v1":
                env.steps_beyond_terminated = None  # type: ignore[attr-defined]


@pytest.mark.parametrize("env_id", COMPILED)
def test_which_environments_are_compiled(env_id: str) -> None:
    assert world_of(env_id) is not None
    assert world_of(Environment(id=env_id, max_episode_steps=30)) is not None
    around = [Wrapping(name="gymnasium.wrappers:TimeAwareObservation")]
    assert world_of(Environment(id=env_id, wrappers=around)) is None
    assert world_of(Environment(id=env_id, args={"render_mode": None})) is None
    assert world_of("FrozenLake-v1") is None


def test_cartpole_registered_with_arguments_is_stepped_by_gymnasium() -> None:
    """Compiled, it would be played without them."""
    gymnasium.register(
        "Punished-v0",
        entry_point="gymnasium.envs.classic_control.cartpole:CartPoleEnv",
        vector_entry_point="gymnasium.envs.classic_control.cartpole:CartPoleVectorEnv",
        max_episode_steps=40,
        kwargs={"sutton_barto_reward": True},
    )
    try:
        assert world_of("Punished-v0") is None
    finally:
        del gymnasium.registry["Punished-v0"]


@pytest.mark.parametrize("env_id", EVERY)
def test_a_resumed_training_is_the_uninterrupted_one(env_id: str) -> None:
    params = replace(PARAMS, buffer_size=250, train_freq=7)
    straight, resumed = (training(params=params, env_id=env_id, compiled=True) for _ in range(2))
    found = []
    for event in straight.run():
        if isinstance(event, Evaluation | Score):
            found.append(numbers(event))
        if isinstance(event, Evaluation) and straight.segment == 2:
            saved = {name: array.copy() for name, array in straight.state().items()}
    list(resumed.run())
    resumed.load_state(saved)
    assert list(map(numbers, ends(resumed))) == found[2:]
    for name, array in straight.state().items():
        assert np.array_equal(array, resumed.state()[name]), name


@pytest.mark.parametrize("env_id", EVERY)
def test_an_agent_is_a_function_of_its_own_seed(env_id: str) -> None:
    among, alone = (training(seeds, env_id=env_id, compiled=True) for seeds in ([1, 2, 3], [3]))
    for first, second in zip(evaluations(among), evaluations(alone), strict=True):
        for name, values in second.metrics.items():
            if name != "steps_per_second":
                assert np.array_equal(first.metrics[name][2:], values, equal_nan=True), name
    assert np.array_equal(among.state()["agent.online"][2:], alone.state()["agent.online"])


def test_where_it_pauses_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words are drawn as they are used, whatever the pieces."""
    params = replace(PARAMS, train_freq=7, gradient_steps=5)
    whole = fingerprint(training(params=params, compiled=True))
    monkeypatch.setattr("worker.trainers.dqn.compiled.course._STEPS_PER_CALL", 11)
    monkeypatch.setattr("worker.trainers.dqn.compiled.course._EPISODES_PER_CALL", 1)
    monkeypatch.setattr("worker.trainers.dqn.compiled.learners._OPERATIONS_PER_CALL", 1.0)
    monkeypatch.setattr("worker.trainers.dqn.trainer._SECONDS_PER_PROGRESS", 0.0)
    running = training(params=params, compiled=True)
    told = [event.step for event in running.run() if isinstance(event, Progress)]
    assert len(told) > 600, "updates come one at a time"
    assert told == sorted(told)
    assert told[-1] == 900
    assert fingerprint(training(params=params, compiled=True)) == whole


@pytest.mark.parametrize("env_id", EVERY)
def test_a_training_that_diverges_is_refused(env_id: str) -> None:
    """A compiled ReLU must not lose a NaN."""
    with pytest.raises(NonFiniteError, match=r"agent 0 \(seed 1\): .* step 300"):
        evaluations(
            training(params=replace(PARAMS, learning_rate=1e30), env_id=env_id, compiled=True)
        )


@pytest.mark.parametrize(
    ("learning_starts", "says"), [(50, "training loss"), (900, "network")], ids=["loss", "network"]
)
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_the_agent_that_diverged_is_named(bad: float, learning_starts: int, says: str) -> None:
    running = training(params=replace(PARAMS, learning_starts=learning_starts), compiled=True)
    running._agent.online.flat[1, 3] = bad
    with pytest.raises(NonFiniteError, match=rf"agent 1 \(seed 2\): {says} is not finite"):
        evaluations(running)


@pytest.mark.parametrize("batch_size", range(1, 40))
def test_what_is_read_beyond_a_layer_is_memory_of_ours(batch_size: int) -> None:
    """A layer's results are transposed in whole squares."""
    widths = (16, 31, 17)
    sizes = np.array([4, *widths, 2])
    kept, start = learning.make_scratch(sizes, batch_size).kept, 0
    for width in widths:
        assert start + (padded(width) - 1) * batch_size + padded(batch_size) <= len(kept)
        start += width * batch_size


@pytest.mark.parametrize("variable", ["NUMBA_CACHE_DIR", "XDG_CACHE_HOME"])
def test_machine_code_is_kept_by_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Numba goes on with what it has, though a function of another file has changed."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "cache"))
    first = compiled._cache_folder()
    assert first.parent == tmp_path / "cache" / "trialfleet"
    assert compiled._cache_folder() == first
    sources = tmp_path / "sources"
    shutil.copytree(Path(compiled.__file__).parent, sources)
    monkeypatch.setattr(compiled, "__file__", str(sources / "__init__.py"))
    assert compiled._cache_folder() == first
    with (sources / "environments.py").open("a") as source:
        source.write("# changed\n")
    changed = compiled._cache_folder()
    assert changed != first
    assert changed.parent == first.parent
    monkeypatch.setattr(vectors, "LANES", 2)
    assert compiled._cache_folder() not in (first, changed)


@pytest.mark.parametrize("fresh", [True, False])
def test_what_an_image_brings_along_is_used_if_it_is_of_these_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    folder = compiled._cache_folder()
    (folder / "code").write_text("ours")
    if not fresh:
        folder.rename(folder.with_name("older"))
    # Root may write anywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    copied = compiled._cache_folder()
    assert not copied.is_relative_to(tmp_path)
    assert [path.name for path in copied.iterdir()] == (["code"] if fresh else [])


def test_without_a_home_machine_code_is_kept_for_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As for a user id of a container's that nobody has heard of."""
    for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    program = (
        "import pwd; pwd.getpwuid = lambda _: {}[0]\n"
        "from worker.trainers.dqn.compiled import _cache_folder; print(_cache_folder())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    folder = Path(done.stdout.strip())
    assert folder.parent == Path(tempfile.gettempdir())
    assert not folder.exists(), "it is gone with its process"
