"""The agents of a trial as the compiled updates see them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from worker.trainers.dqn.agent import Agent
from worker.trainers.dqn.compiled.acting import scaling_of
from worker.trainers.dqn.compiled.learning import Learner, Rule, learn_many, make_scratch
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.replay import ReplayMemory

# A call is to take about 20 ms: long beside its start, short for who waits to stop the training.
_OPERATIONS_PER_CALL = 2e9


class Learners:
    """S agents, one after the other: an agent's parameters stay in the processor's cache.

    Args:
        params: Of all of them.
        agent: Whose networks learn.
        replay: What they learn from.
    """

    def __init__(self, params: Params, agent: Agent, replay: ReplayMemory) -> None:
        self._agent, self._replay = agent, replay
        sizes = np.array(agent.online.sizes, np.int64)
        self.rule = Rule(
            sizes=sizes,
            learning_rate=params.learning_rate,
            gamma=params.gamma,
            tau=params.tau,
            max_grad_norm=params.max_grad_norm,
            huber=params.loss == "huber",
            double_q=params.double_q,
        )
        self.scratch = make_scratch(sizes, params.batch_size)
        mean, factor = scaling_of(agent.online)
        online, target, exp_avg, exp_avg_sq, rows, loss_sum = (
            tensor.numpy()
            for tensor in (
                agent.online.flat,
                agent.target.flat,
                agent.moments["exp_avg"],
                agent.moments["exp_avg_sq"],
                replay.storage,
                agent.loss_sum,
            )
        )
        self.each = [
            Learner(
                online=online[i],
                target=target[i],
                exp_avg=exp_avg[i],
                exp_avg_sq=exp_avg_sq[i],
                rows=rows[i],
                held=np.zeros(2, np.int64),
                mean=mean[i],
                factor=factor[i],
                updates=np.zeros(1, np.int64),
                loss_sum=loss_sum[i : i + 1],
            )
            for i in range(agent.online.stack)
        ]
        passes = 8 if params.double_q else 6  # two operations a weight; the way back is two passes
        operations = passes * params.batch_size * agent.online.flat.shape[1]
        self.updates_per_call = max(1, int(_OPERATIONS_PER_CALL / operations))

    def begin(self) -> None:
        """Tell the compiled side where the agents stand."""
        for learner in self.each:
            learner.held[:] = self._replay.position, self._replay.size
            learner.updates[0] = self._agent.updates

    def end(self, *, steps: int = 0) -> None:
        """Tell the agents what the compiled side has done: updates, and `steps` remembered."""
        self._agent.updates = int(self.each[0].updates[0])
        self._agent.moments["step"].fill_(self._agent.updates)
        self._replay.wrote(steps)

    def learn(self, words: NDArray[np.uint32]) -> Iterator[None]:
        """Take a round of updates, sampled by `words` [G, S, B], pausing after some."""
        self.begin()
        for i, learner in enumerate(self.each):
            for at in range(0, len(words), self.updates_per_call):
                own = np.ascontiguousarray(words[at : at + self.updates_per_call, i])
                learn_many(self.rule, learner, self.scratch, own)
                yield
        self.end()
