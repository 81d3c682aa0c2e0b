"""The tensor code that GPUs train with, on the CPU, against Gymnasium and the plain training."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Literal

import gymnasium
import numpy as np
import pytest
import torch

from tests.support import card
from tests.unit.dqn.settings import PARAMS
from tests.unit.dqn.short import ends, fingerprint, training
from worker.trainers.dqn.builtin_envs import world_of
from worker.trainers.dqn.gpu import cuda_graphs
from worker.trainers.dqn.gpu.backend import GpuStepping
from worker.trainers.dqn.gpu.tensor_envs import TENSOR_ENVS
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.stepping import Steps
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import Evaluation

ENVS = ["CartPole-v1", "Acrobot-v1", "MountainCar-v0"]


def on_device(env_id: str, params: Params = PARAMS) -> Training:
    """A training as on a GPU."""
    return training(params=params, env_id=env_id, tensors=True)


@pytest.mark.parametrize("env_id", ENVS)
def test_its_environments_are_gymnasiums(env_id: str) -> None:
    """One step from states all over the place, angles that wrap among them."""
    env = gymnasium.make(env_id, disable_env_checker=True).unwrapped
    world = world_of(env_id)
    assert world is not None
    ours = TENSOR_ENVS[world.name]
    rng = np.random.default_rng(5)
    size = world.starts(rng, 1)[0].shape[1]
    scale = {"CartPole-v1": 0.4, "Acrobot-v1": 4.0, "MountainCar-v0": 0.5}[env_id]
    states = rng.uniform(-scale, scale, (400, size))
    if env_id == "MountainCar-v0":
        states = np.stack([rng.uniform(-1.2, 0.6, 400), rng.uniform(-0.07, 0.07, 400)], axis=1)
    actions = rng.integers(world.actions, size=400)
    after, terminated = ours.step(torch.from_numpy(states), torch.from_numpy(actions))
    rewards, seen = ours.reward(terminated), ours.observe(after)
    for i in range(400):
        env.reset()
        env.state = states[i].copy()  # type: ignore[attr-defined]
        observation, reward, ended, _, _ = env.step(int(actions[i]))
        assert np.allclose(after[i], np.array(env.state), rtol=0, atol=1e-12)  # type: ignore[attr-defined]
        assert np.allclose(seen[i], observation, atol=1e-6)
        assert (rewards[i].item(), bool(terminated[i])) == (reward, ended)
    assert 0 < terminated.sum() < 400


def finished(work: Generator[int, None, Steps]) -> Steps:
    """What comes of it."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            steps: Steps = end.value
            return steps


@pytest.mark.parametrize("env_id", ENVS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_trains_as_in_gymnasium(env_id: str, precision: Literal["fp32", "bf16"]) -> None:
    """The same draws and the same arithmetic; only sines and small products round otherwise."""
    params = replace(PARAMS, learning_starts=200, precision=precision)
    wanted, found = training(params=params, env_id=env_id), on_device(env_id, params)
    steps = [finished(running._stepping.train(0)) for running in (wanted, found)]
    for one, other in zip(*steps, strict=True):
        assert np.array_equal(one, other)  # rewards, and where episodes ended
    for name, array in wanted.state().items():
        assert np.allclose(array, found.state()[name], rtol=2e-3, atol=2e-4), name


@pytest.mark.parametrize("env_id", ENVS)
def test_it_plays_the_episodes_that_gymnasium_plays(env_id: str) -> None:
    wanted, found = training(env_id=env_id), on_device(env_id)
    # The first of them: later on, roundings have grown, and another action may be the best one.
    one, other = (
        next(e for e in ends(each) if isinstance(e, Evaluation)) for each in (wanted, found)
    )
    for name in ("return", "length"):
        assert np.array_equal(one.metrics[name], other.metrics[name]), name


def on_card(params: Params = PARAMS, env_id: str = "CartPole-v1") -> Training:
    return training(params=params, env_id=env_id, device=card.NAME)


@pytest.mark.parametrize("env_id", ENVS)
def test_a_gpu_trains_with_it(env_id: str) -> None:
    """All that it computes lies on the device, and comes to what it comes to on a CPU."""
    wanted = on_device(env_id)
    list(wanted._train())
    with card.inserted():
        found = on_card(env_id=env_id)
        assert isinstance(found._stepping, GpuStepping)
        list(found._train())
        for name, array in wanted.state().items():
            assert np.array_equal(array, found.state()[name]), name


def test_a_gpu_evaluates_and_scores_with_it() -> None:
    wanted = fingerprint(on_device("CartPole-v1"))
    with card.inserted():
        assert fingerprint(on_card()) == wanted


def test_a_gpu_goes_on_from_a_checkpoint() -> None:
    with card.inserted():
        straight, resumed = on_card(), on_card()
        events = straight.run()
        next(event for event in events if isinstance(event, Evaluation))
        state = straight.state()
        assert state is not None
        resumed.load_state(state)
        list(events)
        list(resumed.run())
        for name, array in straight.result().items():
            assert np.array_equal(array, resumed.result()[name]), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_repeats_what_it_has_recorded(
    precision: Literal["fp32", "bf16"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded once, on memory that stays where it is, and what is random or due comes from there.

    It catches a number of the host's that was only true when it was recorded.
    """
    params = replace(PARAMS, precision=precision)
    wanted = fingerprint(on_device("CartPole-v1", params))
    with card.inserted() as device:
        monkeypatch.setitem(cuda_graphs.RECORDERS, card.NAME, lambda: device.record)
        found = on_card(params)
        assert fingerprint(found) == wanted
        assert isinstance(found._stepping, GpuStepping)
        recorded = found._stepping._program._graphs._recorded
        kinds = {name[0] for name in recorded if isinstance(name, tuple)}
        assert kinds == {"step", "update", "play"}
        assert device.replays > 10 * len(recorded)


def test_a_gpu_waits_for_nothing_within_a_segment() -> None:
    """What it waits for at the end are rewards and ends of episodes."""
    with card.inserted() as device:
        running = on_card()
        list(running._train())
        before = device.waits
        for done in running._stepping.train(1):
            if done < 300:
                assert device.waits == before
        assert device.waits == before + 2


@pytest.mark.parametrize("normalize", ["running", "fixed"])
def test_other_environments_are_stepped_on_the_host(
    normalize: Literal["running", "fixed"],
) -> None:
    params = replace(PARAMS, normalize=normalize, learning_starts=200)
    wanted = training(params=params)
    with card.inserted():
        found = on_card(params)
        for running in (wanted, found):
            list(running._train())
        for name, array in wanted.state().items():
            assert np.allclose(array, found.state()[name], rtol=2e-3, atol=2e-4), name
