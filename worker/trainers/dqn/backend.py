"""What a training is made of, and which way it goes through its segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from worker.trainers import envs
from worker.trainers.dqn.agent import Agent
from worker.trainers.dqn.builtin_envs import World, world_of
from worker.trainers.dqn.gpu.backend import OnDevice
from worker.trainers.dqn.network import StackedNetwork
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.randomness import Purpose, streams
from worker.trainers.dqn.replay import ReplayMemory
from worker.trainers.dqn.scaling import Normalizer
from worker.trainers.dqn.stepping import Acting, EveryEnv, Learn, Stepping
from worker.trainers.protocol import Job


class Parts(NamedTuple):
    """The agents of a job, what they remember, and how they go on."""

    agent: Agent
    replay: ReplayMemory
    stepping: Stepping  # to be closed
    normalizer: Normalizer | None = None


def make_parts(job: Job, params: Params, *, tensors: bool | None = None) -> Parts:
    """Make them, so that they go the fastest way that there is for this job.

    Args:
        job: What to train.
        params: Its knobs.
        tensors: Whether environments of our own are tensor code; by default they are on a GPU.
    """
    shape = envs.inspect_env(job.env)
    world = world_of(job.env) if params.normalize == "none" else None
    if tensors is None:
        tensors = job.device != "cpu"
    if world is None or not tensors:
        return _on_host(job, params, shape, world)
    stepping = OnDevice(
        job,
        params,
        world=world,
        observation_size=shape.observation_size,
        limit=shape.max_episode_steps,
    )
    return Parts(stepping.trial.agent, stepping.trial.replay, stepping)


def _on_host(job: Job, params: Params, shape: envs.EnvShape, world: World | None) -> Parts:
    """Those whose environments are stepped on a CPU, wherever they learn."""
    agent = Agent(
        params=params,
        observation_size=shape.observation_size,
        actions=shape.actions,
        generators=[np.random.default_rng(s) for s in streams(job.seeds, 0, Purpose.NETWORK)],
        device=job.device,
    )
    replay = ReplayMemory(
        stack=len(job.seeds),
        capacity=min(params.buffer_size, job.train_steps),
        observation_size=shape.observation_size,
        device=job.device,
    )
    scaling = agent.online.scaling
    normalizer = Normalizer(scaling, fixed=params.normalize == "fixed") if scaling else None
    learn: Learn | None = None
    acting: Callable[[StackedNetwork], Acting] | None = None
    if job.compiled and job.device == "cpu" and params.precision == "fp32":
        # Here, because it takes a while, and where it is not installed nothing needs it.
        from worker.trainers.dqn import compiled

        learners, limit = compiled.Learners(params, agent, replay), shape.max_episode_steps
        if world is not None:
            stepping = compiled.InWorld(job, params, learners, world=world, limit=limit)
            return Parts(agent, replay, stepping)
        learn, acting = learners.learn, compiled.Acting
    # Last, so that nothing that fails leaves it open.
    every = EveryEnv(
        job,
        params,
        agent,
        replay,
        actions=shape.actions,
        normalizer=normalizer,
        learn=learn,
        acting=acting,
    )
    return Parts(agent, replay, every, normalizer)
