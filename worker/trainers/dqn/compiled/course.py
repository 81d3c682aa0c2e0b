"""Segments in a compiled environment: one agent after the other does all its steps and updates."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np

from worker.trainers.dqn.builtin_envs import World
from worker.trainers.dqn.compiled import segments
from worker.trainers.dqn.compiled.acting import Acting
from worker.trainers.dqn.compiled.environments import NUMBERS, TWO
from worker.trainers.dqn.compiled.learners import Learners
from worker.trainers.dqn.compiled.segments import STEP, TO_LEARN, Course
from worker.trainers.dqn.episodes import Episodes
from worker.trainers.dqn.network import StackedNetwork
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.randomness import Purpose, env_seeds, exploration, streams
from worker.trainers.dqn.stepping import Steps
from worker.trainers.protocol import Job

_STEPS_PER_CALL = 10_000  # as many take some 20 ms without any learning
_EPISODES_PER_CALL = 10


class InWorld:
    """The agents of a job in a compiled environment; see `worker.trainers.dqn.stepping.Stepping`.

    Args:
        job: What to train.
        params: Its knobs.
        learners: Its agents.
        world: Where they act.
        limit: Steps of the longest episode.
    """

    portable = True

    def __init__(
        self, job: Job, params: Params, learners: Learners, *, world: World, limit: int
    ) -> None:
        self._job, self._params, self._learners = job, params, learners
        self._world, self._limit = world, limit
        self._number = NUMBERS[world.name]

    def train(self, segment: int) -> Generator[int, None, Steps]:
        """See `Stepping`."""
        courses = self._courses(segment)
        sources = streams(self._job.seeds, segment, Purpose.REPLAY)
        self._learners.begin()
        done = 0
        for i, (course, source) in enumerate(zip(courses, sources, strict=True)):
            for _ in self._train_one(i, course, np.random.default_rng(source)):
                yield (done + int(course.clock[STEP])) // len(courses)
            done += self._job.eval_every
        self._learners.end(steps=self._job.eval_every)
        return Steps(  # [T, S]
            np.stack([course.rewards for course in courses], axis=1),
            np.stack([course.ended for course in courses], axis=1),
        )

    def _courses(self, segment: int) -> list[Course]:
        job, params = self._job, self._params
        before = segment * job.eval_every
        explore, random_actions = exploration(  # [T, S], [T, S]
            streams(job.seeds, segment, Purpose.EXPLORATION),
            params,
            actions=self._world.actions,
            steps=range(before, before + job.eval_every),
            train_steps=job.train_steps,
        )
        found = []
        for i, source in enumerate(streams(job.seeds, segment, Purpose.ENVIRONMENT)):
            rng = np.random.default_rng(env_seeds(source, 1)[0])
            starts, first_seen = self._world.starts(rng, job.eval_every + 1)
            found.append(
                Course(
                    env=self._number,
                    two=TWO,
                    train_freq=params.train_freq,
                    updates_per_round=params.updates_per_round,
                    learning_starts=params.learning_starts,
                    target_update_interval=params.target_update_interval,
                    max_episode_steps=self._limit,
                    first=before,
                    explore=np.ascontiguousarray(explore[:, i]),
                    random_action=np.ascontiguousarray(random_actions[:, i]),
                    starts=starts,
                    first_seen=first_seen,
                    state=starts[0].copy(),
                    seen=first_seen[0].copy(),
                    rewards=np.zeros(job.eval_every),
                    ended=np.zeros(job.eval_every, np.bool_),
                    clock=np.zeros(4, np.int64),
                )
            )
        return found

    def _train_one(self, i: int, course: Course, rng: np.random.Generator) -> Iterator[None]:
        """Train agent `i` through its course, in pieces."""
        learners, clock, size = self._learners, course.clock, self._params.batch_size
        while clock[STEP] < self._job.eval_every or clock[TO_LEARN]:
            until = min(int(clock[STEP]) + _STEPS_PER_CALL, self._job.eval_every)
            due = int(clock[TO_LEARN]) + self._updates_between(
                course.first + int(clock[STEP]), course.first + until
            )
            # As many words as are used, so that what is drawn does not depend on the pieces.
            words = rng.integers(0, 2**32, (min(due, learners.updates_per_call), size), np.uint32)
            segments.train(learners.rule, learners.each[i], learners.scratch, course, until, words)
            yield

    def _updates_between(self, before: int, after: int) -> int:
        """How many updates fall due after `before` steps and up to `after` steps."""
        params = self._params
        before = max(before, params.learning_starts)
        rounds = max(0, after // params.train_freq - before // params.train_freq)
        return rounds * params.updates_per_round

    def play(
        self, network: StackedNetwork, sources: Sequence[np.random.SeedSequence], count: int
    ) -> Generator[None, None, Episodes]:
        """See `Stepping`."""
        sizes, flat = np.array(network.sizes, np.int64), network.flat.numpy()
        returns = np.zeros((network.stack, count))
        lengths = np.zeros((network.stack, count), np.int64)
        for i, source in enumerate(sources):
            drawn = [
                self._world.starts(np.random.default_rng(seed), 1)
                for seed in env_seeds(source, count)
            ]
            starts, seen = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
            for at in range(0, count, _EPISODES_PER_CALL):
                some = slice(at, at + _EPISODES_PER_CALL)
                segments.play(
                    self._number,
                    TWO,
                    sizes,
                    flat[i],
                    starts[some],
                    seen[some],
                    self._limit,
                    returns[i, some],
                    lengths[i, some],
                )
                yield
        return Episodes(returns, lengths)

    def acting(self, network: StackedNetwork) -> Acting:
        """See `Stepping`."""
        return Acting(network)

    def close(self) -> None:
        """See `Stepping`; there is nothing to close."""
