"""What a `worker.trainers.dqn.gpu.program` is asked for, and by which trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from worker.trainers.dqn.agent import Agent
from worker.trainers.dqn.builtin_envs import World
from worker.trainers.dqn.episodes import Episodes
from worker.trainers.dqn.gpu.scheduler import Request
from worker.trainers.dqn.network import StackedNetwork
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.randomness import Purpose, replay_words, streams
from worker.trainers.dqn.replay import ReplayMemory
from worker.trainers.dqn.stepping import Steps
from worker.trainers.protocol import Job

# Hyperparameters that each trial of a program has its own of.
OWN = (
    "learning_rate",
    "gamma",
    "tau",
    "target_update_interval",
    "learning_starts",
    "exploration_initial_eps",
    "exploration_fraction",
    "exploration_final_eps",
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the trials of one program have in common."""

    lanes: int  # trials, at most
    agents: int  # S, of a trial
    world: World
    limit: int  # steps of the longest episode
    eval_every: int
    capacity: int  # of an agent's replay memory
    observation_size: int
    params: Params  # except `OWN`, which stand at their defaults
    device: str


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial in its lane."""

    job: Job
    params: Params
    agent: Agent
    replay: ReplayMemory

    @property
    def rows(self) -> slice:
        """Its agents', in the program's tensors."""
        return self.agent.at


@dataclass(eq=False, kw_only=True)
class Segment(Request):
    """A request for a segment's steps and updates of one trial."""

    trial: Trial
    number: int  # from 0
    steps: Steps | None = None  # what came of it
    words: Iterator[NDArray[np.uint32]] = field(init=False)  # [G, S, B] that rounds are sampled by

    def __post_init__(self) -> None:
        """Make its generator for the replay memory."""
        self.words = replay_words(self.streams(Purpose.REPLAY), self.trial.params)

    @property
    def before(self) -> int:
        """Steps that each agent has done by its start."""
        return self.number * self.trial.job.eval_every

    def streams(self, purpose: Purpose) -> list[np.random.SeedSequence]:
        """The agents', for one purpose."""
        return streams(self.trial.job.seeds, self.number, purpose)

    def is_due(self, step: int) -> bool:
        """Whether a round of updates follows the agents' step `step`."""
        params = self.trial.params
        return step % params.train_freq == 0 and step > params.learning_starts


@dataclass(eq=False, kw_only=True)
class Play(Request):
    """A request for greedy episodes with the networks of one trial."""

    trial: Trial
    network: StackedNetwork
    streams: Sequence[np.random.SeedSequence]
    count: int  # of each agent
    episodes: Episodes | None = None  # what came of it
