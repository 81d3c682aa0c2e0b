"""The choice of how a job's segments are gone through: on a GPU, as machine code, or by Gymnasium.

Nothing else asks where agents act and learn, or imports `worker.trainers.dqn.gpu`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from worker.trainers import envs
from worker.trainers.dqn.agent import Agent, make_agents
from worker.trainers.dqn.builtin_envs import World, world_of
from worker.trainers.dqn.gpu.backend import GpuStepping
from worker.trainers.dqn.network import StackedNetwork
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.replay import ReplayMemory
from worker.trainers.dqn.scaling import Normalizer
from worker.trainers.dqn.stepping import Acting, EveryEnv, Learn, Stepping
from worker.trainers.protocol import Job


class Backend(NamedTuple):
    """The agents of a job, what they remember, and how they go through its segments."""

    agent: Agent
    replay: ReplayMemory
    stepping: Stepping  # to be closed
    normalizer: Normalizer | None = None


def choose_backend(job: Job, params: Params, *, tensors: bool | None = None) -> Backend:
    """Make the fastest one that there is for this job.

    Args:
        job: What to train.
        params: Its hyperparameters.
        tensors: Whether environments of our own are tensor code; by default they are on a GPU.
    """
    shape = envs.inspect_env(job.env)
    world = world_of(job.env) if params.normalize == "none" else None
    if tensors is None:
        tensors = job.device != "cpu"
    if world is None or not tensors:
        return _on_host(job, params, shape, world)
    stepping = GpuStepping(job, params, world=world, shape=shape)
    return Backend(stepping.trial.agent, stepping.trial.replay, stepping)


def _on_host(job: Job, params: Params, shape: envs.EnvShape, world: World | None) -> Backend:
    """One whose environments are stepped on a CPU, wherever its agents learn."""
    agent, replay = make_agents(
        job, params, observation_size=shape.observation_size, actions=shape.actions
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
            return Backend(agent, replay, stepping)
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
    return Backend(agent, replay, every, normalizer)
