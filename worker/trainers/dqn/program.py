"""Trials of one shape as one tensor program: all their agents act, step and learn at once.

A GPU is far too large for the agents of one trial. So a program has lanes: trial i has the rows
from i·S on of every tensor. Trials differ in what `OWN` lists, and each is at a step of its own;
they only go through their segments at the same time. No agent's numbers depend on another agent's.

Random numbers are drawn on the host, as everywhere, and go to the device before a segment; rewards
and ends of episodes come back after it. In between nothing is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.trainers.dqn.agent import Agent
from worker.trainers.dqn.episodes import Episodes
from worker.trainers.dqn.learning import Learning
from worker.trainers.dqn.network import StackedNetwork
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.randomness import Purpose, env_seeds, exploration, replay_words, streams
from worker.trainers.dqn.rendezvous import Rendezvous, Request
from worker.trainers.dqn.replay import ReplayMemory
from worker.trainers.dqn.stack import make_stack
from worker.trainers.dqn.stepping import Steps
from worker.trainers.dqn.tensors import TENSOR_ENVS
from worker.trainers.dqn.worlds import World
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
_STEPS_PER_LOOK = 16  # of greedy episodes, before it is asked whether any goes on: that is a wait


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


class Program:
    """The program.

    Attributes:
        stack: What the agents of all lanes learn in.
        storage: What they remember [N, C, W].
        lanes: Where their trials' threads meet.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._agents = shape.lanes * shape.agents  # N
        sizes = (shape.observation_size, *shape.params.net_arch, shape.world.actions)
        self.stack = make_stack(sizes, self._agents, shape.device)
        self._memory = ReplayMemory(
            stack=self._agents,
            capacity=shape.capacity,
            observation_size=shape.observation_size,
            device=shape.device,
        )
        self.storage = self._memory.storage
        self._learning = Learning(shape.params, self.stack)
        self._playing = StackedNetwork(sizes, self._agents, shape.device)
        self._env = TENSOR_ENVS[shape.world.name]
        self.lanes = Rendezvous(shape.lanes, self._work)

    def _work(self, requests: list[Any]) -> Iterator[int | None]:
        return self._play(requests) if isinstance(requests[0], Play) else self._train(requests)

    def _train(self, segments: list[Segment]) -> Iterator[int]:
        """Do segments, each of another trial; it pauses often, and says how far it is."""
        shape, env = self.shape, self._env
        steps, n = shape.eval_every, self._agents
        explore, random_actions, starts = self._draw(segments)
        all_explore = np.logical_and.reduce(explore, axis=1)  # [T]
        explore_there, random_there = self._there(explore), self._there(random_actions)
        state, each = starts[:, 0], torch.arange(n, device=shape.device)
        episode = torch.zeros_like(each)  # [N] begun and ended
        length = torch.zeros_like(each)  # [N] of the one that goes on
        rewards = torch.empty(steps, n, dtype=torch.float64, device=shape.device)
        ended = torch.empty(steps, n, dtype=torch.bool, device=shape.device)
        remember = self._remembering(segments)
        for t in range(steps):
            seen = env.observe(state)  # [N, O]
            action = random_there[t]
            if not all_explore[t]:
                greedy = _greedy(self.stack.online, seen[:, None])[:, 0]
                action = torch.where(explore_there[t], action, greedy)
            after, terminated = env.step(state, action)
            rewards[t] = env.reward(terminated)
            row = (action, rewards[t], terminated)
            remember(
                torch.cat([seen, env.observe(after), *(x.float().unsqueeze(1) for x in row)], dim=1)
            )
            length += 1
            ended[t] = terminated | (length >= shape.limit)
            episode += ended[t]
            state = torch.where(ended[t].unsqueeze(1), starts[each, episode], after)
            length.masked_fill_(ended[t], 0)
            # The order within a step is that of `worker.trainers.dqn.stepping`.
            due = []
            for segment in _wanted(segments):
                step = segment.before + t + 1
                if step % segment.trial.params.target_update_interval == 0:
                    segment.trial.agent.update_target()
                if segment.is_due(step):
                    due.append(segment)
            if due:
                for _ in self._learn(due):
                    yield t + 1
            yield t + 1
        rewards_here, ended_here = rewards.cpu().numpy(), ended.cpu().numpy()
        for segment in _wanted(segments):
            rows = segment.trial.rows
            segment.steps = Steps(rewards_here[:, rows], ended_here[:, rows])

    def _draw(
        self, segments: Sequence[Segment]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64], Tensor]:
        """What is drawn for segments: which actions are random [T, N], those actions [T, N], and
        the states that episodes begin in [N, T + 1, …].
        """
        shape = self.shape
        explore = np.ones((shape.eval_every, self._agents), np.bool_)
        actions = np.zeros((shape.eval_every, self._agents), np.int64)
        seeds = [0] * self._agents
        for segment in segments:
            job, rows = segment.trial.job, segment.trial.rows
            explore[:, rows], actions[:, rows] = exploration(
                segment.streams(Purpose.EXPLORATION),
                segment.trial.params,
                actions=shape.world.actions,
                steps=range(segment.before, segment.before + shape.eval_every),
                train_steps=job.train_steps,
            )
            sources = segment.streams(Purpose.ENVIRONMENT)
            seeds[rows] = [env_seeds(source, 1)[0] for source in sources]
        return explore, actions, self._starts(seeds, shape.eval_every + 1)

    def _remembering(self, segments: list[Segment]) -> Callable[[Tensor], None]:
        """What remembers a step of every agent of the segments, given rows [N, W]."""
        wanted: list[Segment] = []
        agents = position = torch.empty(0)

        def remember(rows: Tensor) -> None:
            nonlocal wanted, agents, position
            if len(now := _wanted(segments)) != len(wanted) or not wanted:
                wanted = now
                numbers = np.arange(self._agents)
                agents = self._there(np.concatenate([numbers[s.trial.rows] for s in wanted]))
                at = [segment.trial.replay.position for segment in wanted]
                position = self._there(np.repeat(np.array(at), self.shape.agents))
            self.storage.index_put_((agents, position), rows.index_select(0, agents))
            position = (position + 1) % self.shape.capacity
            for segment in wanted:
                segment.trial.replay.wrote(1)

        return remember

    def _learn(self, segments: Sequence[Segment]) -> Iterator[None]:
        """Take a round of updates of each trial, pausing after some."""
        params = self.shape.params
        words = np.zeros((params.updates_per_round, self._agents, params.batch_size), np.uint32)
        held = np.zeros(self._agents, np.int64)
        for segment in segments:
            rows = segment.trial.rows
            words[:, rows], held[rows] = next(segment.words), segment.trial.replay.size
        for some in torch.split(self._memory.rows(words, held), params.batches_together):
            agents = [segment.trial.agent for segment in _wanted(segments)]
            self._learning.update(self._memory.sample(some), agents)
            yield

    def _play(self, plays: list[Play]) -> Iterator[None]:
        """Play episodes, as many with each agent of each trial; pauses often."""
        env, shape = self._env, (self._agents, plays[0].count)
        seeds = np.zeros(shape, np.int64)
        playing = np.zeros(shape, np.bool_)
        for play in plays:
            rows = play.trial.rows
            self._playing.flat[rows] = play.network.flat
            seeds[rows] = [env_seeds(source, play.count) for source in play.streams]
            playing[rows] = True
        state = self._starts(seeds.ravel().tolist(), 1)[:, 0]  # [N·E, …]
        goes_on = self._there(playing.ravel())
        returns = torch.zeros(len(state), dtype=torch.float64, device=state.device)
        lengths = torch.zeros(len(state), dtype=torch.int64, device=state.device)
        for step in range(self.shape.limit):
            if step % _STEPS_PER_LOOK == 0 and not goes_on.any():
                break
            seen = env.observe(state).view(*shape, -1)  # [N, E, O]
            state, terminated = env.step(state, _greedy(self._playing, seen).flatten())
            returns += torch.where(goes_on, env.reward(terminated), 0.0)
            lengths += goes_on
            goes_on &= ~terminated
            yield
        found = returns.view(shape).cpu().numpy(), lengths.view(shape).cpu().numpy()
        for play in plays:
            play.episodes = Episodes(*(each[play.trial.rows] for each in found))

    def _starts(self, seeds: Sequence[int], count: int) -> Tensor:
        """The states [·, count, …] that the episodes of environments with these seeds begin in."""
        world = self.shape.world
        drawn = [world.starts(np.random.default_rng(seed), count)[0] for seed in seeds]
        return self._there(np.stack(drawn))

    def _there(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.shape.device)


def _wanted(segments: Sequence[Segment]) -> list[Segment]:
    """Those that nobody has withdrawn: a lane may be another trial's at once."""
    return [segment for segment in segments if not segment.withdrawn]


def _greedy(network: StackedNetwork, seen: Tensor) -> Tensor:
    """The actions [N, B] of highest value."""
    return network(seen).argmax(2)
