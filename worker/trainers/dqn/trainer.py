"""The DQN as a trainer: segments of training, each with its evaluation, then the score."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trialfleet.study.returns import OutsideReturnsError
from worker.trainers.dqn.backend import choose_backend
from worker.trainers.dqn.episodes import Episodes, mean_return_of_ended
from worker.trainers.dqn.network import KeptNetworks, StackedNetwork
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.randomness import Purpose, epsilon, streams
from worker.trainers.environment import FLOAT32_MOST
from worker.trainers.protocol import Evaluation, Event, Job, NonFiniteError, Progress, Score

_Result = TypeVar("_Result")

_SECONDS_PER_PROGRESS = 0.1
_REMEMBERED_STATES = 256  # of each agent, whose values "q_mean" is the mean of


class Training:
    """S agents that differ in their seed only; see `worker.trainers.protocol.Trainer`.

    The result is a function of the job, to the bit, for one build on one thread
    (`worker.trainers.threads.use_one_thread`): in one go, or with `state` taken at the end of any
    segment and given to `load_state` of a new Training of the same job. What agent i does depends
    on `seeds[i]`, and not on the other seeds.
    """

    def __init__(self, job: Job, *, tensors: bool | None = None) -> None:
        """Make what nothing has been learned by.

        Args:
            job: What to train.
            tensors: See `worker.trainers.dqn.backend.choose_backend`.
        """
        if job.train_steps % job.eval_every:
            raise ValueError(
                f"{job.train_steps} steps are no whole number of segments of {job.eval_every}"
            )
        self._job, self._params = job, Params(**job.knobs)
        self.segment = 0  # segments done
        self.segments = job.train_steps // job.eval_every
        self._agent, self._replay, self._stepping, self._normalizer = choose_backend(
            job, self._params, tensors=tensors
        )
        self._kept = KeptNetworks(self._agent.online)
        self._told = time.monotonic()  # when the last Progress was due

    @property
    def portable(self) -> bool:
        """See `worker.trainers.protocol.Trainer`."""
        return self._stepping.portable

    def run(self) -> Generator[Event, None, None]:
        """Train from the current segment to the end; see `worker.trainers.protocol.Trainer`."""
        job = self._job
        while self.segment < self.segments:
            metrics = yield from self._train()
            episodes = yield from self._play(
                self._agent.online, Purpose.EVALUATION, job.eval_episodes, self.segment
            )
            returns = episodes.returns.mean(axis=1)  # [S]
            self._kept.offer(self._agent.online, returns, always=job.keep == "last")
            self.segment += 1
            lengths = episodes.lengths.mean(axis=1)  # [S]
            yield Evaluation(
                step=self._step, metrics={"return": returns, "length": lengths, **metrics}
            )
        # What is kept was chosen by the evaluations, so the score is of episodes of its own.
        episodes = yield from self._play(
            self._kept.networks, Purpose.SCORE, job.score_episodes, self.segments - 1
        )
        yield Score(step=self._step, returns=episodes.returns.mean(axis=1))

    @property
    def _step(self) -> int:
        """Environment steps that each agent had done when the last segment ended."""
        return self.segment * self._job.eval_every

    def _train(self) -> Generator[Progress, None, dict[str, NDArray[np.float64]]]:
        """Do one segment's steps and updates; return its metrics [S]."""
        updates_before, began = self._agent.updates, time.monotonic()
        self._agent.loss_sum.zero_()
        steps = yield from self._paced(self._stepping.train(self.segment), self._step)
        seconds = time.monotonic() - began
        self._refuse_bad_rewards(steps.rewards)
        return self._measure(*steps, self._agent.updates - updates_before, seconds)

    def _measure(
        self,
        rewards: NDArray[np.float64],  # [T, S]
        ended: NDArray[np.bool_],  # [T, S]
        updates: int,
        seconds: float,
    ) -> dict[str, NDArray[np.float64]]:
        """The metrics [S] of a segment that took so many updates and seconds."""
        loss = self._loss(updates)
        acting = self._stepping.acting(self._agent.online)
        states = self._replay.remembered(_REMEMBERED_STATES).cpu().numpy()  # [S, K, O]
        q = acting.values(states).max(axis=2).astype(np.float64)  # [S, K]
        job, stack = self._job, len(self._job.seeds)
        after = np.array([self._step + job.eval_every])
        return {
            **({"loss": loss} if loss is not None else {}),
            "q_mean": q.mean(axis=1),
            "epsilon": epsilon(self._params, after, job.train_steps).repeat(stack),
            "episode_return": mean_return_of_ended(rewards, ended),
            "steps_per_second": np.full(stack, stack * job.eval_every / max(seconds, 1e-9)),
        }

    def _loss(self, updates: int) -> NDArray[np.float64] | None:
        """The mean loss [S] over the segment's updates, if there were any.

        Raises:
            NonFiniteError: It, or a network's parameter, is not finite.
        """
        loss: NDArray[np.float64] | None = None
        network = self._agent.online.flat.sum(1).cpu().numpy()  # [S]
        if updates:
            loss = self._agent.loss_sum.double().cpu().numpy() / updates
        step = self._step + self._job.eval_every
        if not np.isfinite(network if loss is None else network + loss).all():
            # Say where it began, if it did not begin here.
            observed = f"an observation of {self._job.env}, as a 32-bit float,"
            self._refuse_non_finite(observed, self._replay.sums(), step)
        if loss is not None:
            self._refuse_non_finite("training loss", loss, step)
        self._refuse_non_finite("network", network, step)
        return loss

    def _play(
        self, network: StackedNetwork, purpose: Purpose, count: int, segment: int
    ) -> Generator[Progress, None, Episodes]:
        """Play `count` greedy episodes with each agent of `network`, after `segment`."""
        playing = self._stepping.play(network, streams(self._job.seeds, segment, purpose), count)
        step = (segment + 1) * self._job.eval_every
        episodes = yield from self._paced(playing, step)
        self._refuse_non_finite(f"a return of {self._job.env}", episodes.returns.sum(1), step)
        self._refuse_outside(episodes.returns, step)
        return episodes

    def _paced(
        self, work: Generator[int | None, None, _Result], step: int
    ) -> Generator[Progress, None, _Result]:
        """Do the work, which pauses often and may say how far from `step` it is by then."""
        while True:
            try:
                done = next(work)
            except StopIteration as end:
                result: _Result = end.value
                return result
            now = time.monotonic()
            if now - self._told >= _SECONDS_PER_PROGRESS:
                self._told = now
                yield Progress(step=step + (done or 0))

    def _refuse_bad_rewards(self, rewards: NDArray[np.float64]) -> None:
        """Raise for the first of a segment's rewards [T, S] that a replay memory cannot hold."""
        held = np.abs(rewards) <= FLOAT32_MOST  # nor is NaN
        if held.all():
            return
        t = int(np.flatnonzero(~held.all(axis=1))[0])
        step = self._step + t + 1
        self._refuse_non_finite(f"a reward of {self._job.env}", rewards[t], step)
        agent = int(np.flatnonzero(~held[t])[0])
        raise NonFiniteError(
            f"agent {agent} (seed {self._job.seeds[agent]}): a reward of {self._job.env} is"
            f" {rewards[t, agent]:g} at step {step}, which 32-bit floats cannot hold"
        )

    def _refuse_non_finite(self, what: str, values: NDArray[np.floating], step: int) -> None:
        """Raise for the first agent whose value [S] of `what` is not finite."""
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            agent = int(bad[0])
            named = f"agent {agent} (seed {self._job.seeds[agent]})"
            raise NonFiniteError(f"{named}: {what} is not finite at step {step}")

    def _refuse_outside(self, returns: NDArray[np.float64], step: int) -> None:
        """Raise for the first return [S, E] outside of the job's bounds."""
        bounds = self._job.returns
        if bounds is None or (at := bounds.first_outside(returns.ravel().tolist())) is None:
            return
        agent, episode = divmod(at, returns.shape[1])
        raise OutsideReturnsError(
            f"agent {agent} (seed {self._job.seeds[agent]}): an episode of {self._job.env} returned"
            f" {returns[agent, episode]:.12g} at step {step}, outside of task.returns ({bounds});"
            " declare bounds that hold for every episode"
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything a resumed training needs.

        Valid at the end of a segment and before the first; there is no generator state, because
        each segment makes its generators anew.
        """
        parts = {
            "agent": self._agent.state(),
            "replay": self._replay.state(),
            "kept": self._kept.state(),
            **({} if self._normalizer is None else {"seen": self._normalizer.state()}),
        }
        state = {f"{part}.{name}": x for part, xs in parts.items() for name, x in xs.items()}
        return {
            "segment": np.array(self.segment),
            **{name: tensor.cpu().numpy() for name, tensor in state.items()},
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue where `state` was taken, in a Training made with the same arguments.

        Raises:
            ValueError: It was taken of another one; nothing was loaded.
        """
        self._refuse_another(state)
        self._agent.load_state(_part(state, "agent"))
        self._replay.load_state(_part(state, "replay"))
        self._kept.load_state(_part(state, "kept"))
        if self._normalizer is not None:
            self._normalizer.load_state(_part(state, "seen"))
        self.segment = int(state["segment"])

    def _refuse_another(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Raise unless every array of `state` is as one of this training's can be."""
        own, capacity = self.state(), self._replay.capacity
        if state.keys() != own.keys():
            odd = ", ".join(sorted(state.keys() ^ own.keys()))
            raise ValueError(f"the state is of another kind of training, by {odd}")
        for name, array in own.items():
            found, wanted = state[name], array.shape
            if name == "replay.rows":  # as many as are held
                held = found.shape[1] if found.ndim == 3 else -1
                wanted = (array.shape[0], min(held, capacity), array.shape[2])
            if found.shape != wanted or found.dtype != array.dtype:
                raise ValueError(
                    f"the state's {name} is {found.dtype} of shape {found.shape}; must be "
                    f"{array.dtype} of shape {wanted}"
                )
        rows, position = state["replay.rows"], int(state["replay.position"])
        sizes, held = self._agent.online.sizes, rows.shape[1]
        # Machine code writes where these say, and does not look.
        if not np.isin(rows[:, :, 2 * sizes[0]], range(sizes[-1])).all():
            raise ValueError(f"the state remembers other actions than 0 to {sizes[-1] - 1}")
        if position != held % capacity and not (held == capacity and 0 <= position < capacity):
            raise ValueError(f"the state remembers {held} steps and goes on at {position}")
        if not 0 <= int(state["segment"]) <= self.segments or int(state["agent.updates"]) < 0:
            raise ValueError(f"the state is of segment {state['segment']} of {self.segments}")

    def result(self) -> dict[str, NDArray[np.float32]]:
        """Return the networks that are scored by layer, stacked: `q.0.weight` [S, out, in] …."""
        return self._kept.networks.named_arrays()

    def close(self) -> None:
        """Close the training environments. May be called again."""
        self._stepping.close()


def _part(state: Mapping[str, NDArray[Any]], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {
        key.removeprefix(prefix): torch.tensor(array)
        for key, array in state.items()
        if key.startswith(prefix)
    }


make_trainer = Training
