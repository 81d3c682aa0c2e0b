"""A trial in a lane of a `worker.trainers.dqn.gpu.program`, alone or beside others of its shape."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np

from worker.trainers.dqn.agent import make_agents
from worker.trainers.dqn.builtin_envs import World
from worker.trainers.dqn.episodes import Episodes
from worker.trainers.dqn.gpu.program import Program
from worker.trainers.dqn.gpu.requests import OWN, Play, Segment, Shape, Trial
from worker.trainers.dqn.network import StackedNetwork
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.stepping import Steps
from worker.trainers.envs import EnvShape
from worker.trainers.protocol import Job

# The programs of this process, whose lanes trials take as they come and go.
_programs: list[Program] = []
_changing = threading.Lock()


def _enter(shape: Shape) -> tuple[Program, int]:
    """A free lane of a program of this shape, which is made if there is none."""
    with _changing:
        for program in _programs:
            if program.shape == shape and (lane := program.lanes.enter()) is not None:
                return program, lane
        program = Program(shape)
        lane = program.lanes.enter()
        assert lane is not None, "there is room in a new program"
        _programs.append(program)
        return program, lane


def _leave(program: Program, lane: int) -> None:
    """Give the lane back, and the memory with it where it was the last one."""
    with _changing:
        program.lanes.leave(lane)
        if program.lanes.empty:
            _programs.remove(program)


class GpuStepping:
    """The agents of a job in tensor code; see `worker.trainers.dqn.stepping.Stepping`.

    Args:
        job: What to train, and on which device.
        params: Its hyperparameters.
        world: Where its agents act.
        shape: What is to be known of that.

    Attributes:
        trial: What it is for its program.
    """

    portable = False

    def __init__(self, job: Job, params: Params, *, world: World, shape: EnvShape) -> None:
        defaults = Params()
        capacity = min(params.buffer_size, job.train_steps)
        own = {name: getattr(defaults, name) for name in OWN}
        self._program, self._lane = _enter(
            Shape(
                lanes=job.lanes,
                agents=len(job.seeds),
                world=world,
                limit=shape.max_episode_steps,
                eval_every=job.eval_every,
                capacity=capacity,
                observation_size=shape.observation_size,
                params=replace(params, buffer_size=capacity, **own),
                device=job.device,
            )
        )
        self._closed = False
        try:
            self.trial = self._make_trial(job, params)
        except BaseException:
            self.close()
            raise

    def _make_trial(self, job: Job, params: Params) -> Trial:
        """The job's agents and what they remember, as rows of the program's tensors."""
        shape = self._program.shape
        at = slice(self._lane * shape.agents, (self._lane + 1) * shape.agents)
        agent, replay = make_agents(
            job,
            params,
            observation_size=shape.observation_size,
            actions=shape.world.actions,
            stack=self._program.stack,
            at=at,
            storage=self._program.storage[at],
        )
        return Trial(job=job, params=params, agent=agent, replay=replay)

    def train(self, segment: int) -> Generator[int, None, Steps]:
        """See `Stepping`."""
        request = Segment(lane=self._lane, kind="segment", trial=self.trial, number=segment)
        for reached in self._program.lanes.do(request):
            yield reached or 0
        assert request.steps is not None, "it is done"
        return request.steps

    def play(
        self, network: StackedNetwork, sources: Sequence[np.random.SeedSequence], count: int
    ) -> Generator[None, None, Episodes]:
        """See `Stepping`."""
        request = Play(
            lane=self._lane,
            kind=("play", count),
            trial=self.trial,
            network=network,
            streams=sources,
            count=count,
        )
        for _ in self._program.lanes.do(request):
            yield
        assert request.episodes is not None, "it is done"
        return request.episodes

    def acting(self, network: StackedNetwork) -> StackedNetwork:
        """See `Stepping`."""
        return network

    def close(self) -> None:
        """Leave the lane to another trial; see `Stepping`."""
        if not self._closed:
            self._closed = True
            _leave(self._program, self._lane)
