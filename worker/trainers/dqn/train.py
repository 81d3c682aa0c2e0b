"""Training as a generator of segments; pruning, reports and checkpoints are its consumers'."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker import envs
from worker.trainers.dqn.agent import Agent
from worker.trainers.dqn.evaluate import Episodes, play
from worker.trainers.dqn.network import StackedNetwork
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.randomness import Purpose, env_seeds, exploration, replay_words, stream
from worker.trainers.dqn.replay import ReplayMemory

# A Progress is due after this much work, a fraction of a second on one core of any recent machine.
_STEPS_PER_PROGRESS = 256
_FLOPS_PER_PROGRESS = 4e9


class NonFiniteError(Exception):
    """Training has diverged: a loss, a parameter or a return is infinite or not a number."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A moment at which the consumer may stop the training. It has no effect on the result."""

    step: int  # environment steps each agent has done


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The end of a segment; `Training.state` is of this end until the generator is resumed."""

    segment: int  # segments done, this one included
    step: int  # environment steps each agent has done
    returns: NDArray[np.float64]  # [S, E] of greedy episodes
    lengths: NDArray[np.int64]  # [S, E] in environment steps
    loss: NDArray[np.float64] | None  # [S] mean over the segment's updates; None without any
    epsilon: float  # probability of a random action at this step


class Training:
    """S agents that differ in their seed only, each trained on `train_steps` environment steps.

    The result is a function of the constructor's arguments, to the bit, for one build on one thread
    (`worker.threads.use_one_thread`): in one go, or with `state` taken at the end of any segment
    and given to `load_state` of a new Training made with the same arguments. What agent i does
    depends on `seeds[i]`, and not on the other seeds.
    """

    def __init__(
        self,
        env_id: str,
        params: Params,
        seeds: Sequence[int],
        *,
        train_steps: int,  # environment steps of each agent
        eval_every: int,  # environment steps in a segment; divides train_steps
        eval_episodes: int,  # greedy episodes of each agent at a segment's end
        score_episodes: int,  # the same, of the kept networks at the end of the last segment
        keep: Literal["best", "last"] = "last",  # which networks of each agent are its result
        device: str | torch.device = "cpu",
    ) -> None:
        if train_steps % eval_every:
            raise ValueError(f"{train_steps} steps are no whole number of segments of {eval_every}")
        self.segment = 0  # segments done
        self.segments = train_steps // eval_every
        self._env_id, self._params, self._seeds = env_id, params, tuple(seeds)
        self._train_steps, self._eval_every = train_steps, eval_every
        self._eval_episodes, self._score_episodes = eval_episodes, score_episodes
        shape = envs.inspect_env(env_id)
        self._actions = shape.actions
        self._env = envs.make_vector_env(env_id, len(seeds))
        self._agent = Agent(
            params=params,
            observation_size=shape.observation_size,
            actions=shape.actions,
            generators=[np.random.default_rng(s) for s in self._streams(Purpose.NETWORK)],
            device=device,
        )
        self._keep = keep
        self._kept = StackedNetwork(self._agent.online.sizes, len(seeds), device)
        self._kept_means = torch.full((len(seeds),), -torch.inf, dtype=torch.float64)  # [S]
        self._replay = ReplayMemory(
            stack=len(seeds),
            capacity=min(params.buffer_size, train_steps),
            observation_size=shape.observation_size,
            device=device,
        )

    def run(self) -> Iterator[Progress | Evaluation]:
        """Train from the current segment to the end.

        A consumer may drop the generator at any point. Within a segment that leaves this object
        good for nothing but `load_state`.

        Raises:
            NonFiniteError: found at a segment's end, before its Evaluation.
        """
        while self.segment < self.segments:
            loss = yield from self._train()
            episodes = yield from self._evaluate()
            self.segment += 1
            yield Evaluation(
                segment=self.segment,
                step=self._step,
                returns=episodes.returns,
                lengths=episodes.lengths,
                loss=loss,
                epsilon=self._params.epsilon(self._step, self._train_steps),
            )

    @property
    def agents(self) -> int:
        """How many agents are trained."""
        return len(self._seeds)

    @property
    def _step(self) -> int:
        return self.segment * self._eval_every

    def _train(self) -> Generator[Progress, None, NDArray[np.float64] | None]:
        """Do one segment's steps and updates; return the mean loss [S]."""
        params, agent, replay, env = self._params, self._agent, self._replay, self._env
        explore, random_actions = exploration(  # [T, S], [T, S]
            self._streams(Purpose.EXPLORATION),
            params,
            actions=self._actions,
            steps=range(self._step, self._step + self._eval_every),
            train_steps=self._train_steps,
        )
        all_explore = np.logical_and.reduce(explore, axis=1)  # [T]
        words = replay_words(self._streams(Purpose.REPLAY), params)
        work_per_update = self._flops_per_update() / _FLOPS_PER_PROGRESS
        updates_before = agent.updates
        agent.loss_sum.zero_()
        # A segment starts on fresh episodes; what was going on in the last one is left unfinished.
        sources = self._streams(Purpose.ENVIRONMENT)
        s_tm1 = envs.reset(env, [env_seeds(source, 1)[0] for source in sources])  # [S, O]
        real = np.ones(len(self._seeds), np.bool_)  # [S] false where the step only starts over
        work = 0.0
        for t in range(self._eval_every):
            a_tm1 = random_actions[t]  # [S]
            if not all_explore[t]:
                a_tm1 = np.where(explore[t], a_tm1, agent.act(s_tm1))
            s_t, r_t, terminal_t, truncated_t, _ = env.step(a_tm1)
            replay.add(s_tm1, a_tm1, r_t, s_t, terminal_t, real)
            s_tm1, real = s_t, ~(terminal_t | truncated_t)
            step = self._step + t + 1
            # The order within a step is Stable-Baselines3's: the target network first.
            if step % params.target_update_interval == 0:
                agent.update_target()
            if step % params.train_freq == 0 and step > params.learning_starts:
                replay.flush()
                for rows in torch.split(replay.rows(next(words)), params.batches_together):
                    agent.update(replay.sample(rows))
                    work += work_per_update * len(rows)
                    if work >= 1.0:
                        work = 0.0
                        yield Progress(step=step)
            work += 1.0 / _STEPS_PER_PROGRESS
            if work >= 1.0:
                work = 0.0
                yield Progress(step=step)
        updates = agent.updates - updates_before
        loss = agent.loss_sum.double().cpu().numpy() / updates if updates else None
        if loss is not None:
            self._refuse_non_finite("training loss", loss)
        self._refuse_non_finite("network", agent.online.flat.sum(1).cpu().numpy())
        return loss

    def _evaluate(self) -> Generator[Progress, None, Episodes]:
        """Play the greedy episodes that end this segment; after the last one, those that score.

        What is kept is chosen on episodes of its own, so that the score is of fresh ones.
        """
        last = self.segment == self.segments - 1
        if not last or self._keep == "best":
            episodes = yield from self._play(
                self._agent.online, Purpose.EVALUATION, self._eval_episodes
            )
            self._keep_better(torch.from_numpy(episodes.returns.mean(1)))
        if self._keep == "last":
            self._kept.flat.copy_(self._agent.online.flat)
        if last:
            episodes = yield from self._play(self._kept, Purpose.SCORE, self._score_episodes)
        return episodes

    def _keep_better(self, means: Tensor) -> None:
        """Keep the networks of each agent that did at least as well (`means` [S]) as those kept."""
        better = means >= self._kept_means  # [S]; of equals, the one that learned for longer
        rows = better.to(self._kept.flat.device).unsqueeze(1)  # [S, 1]
        self._kept.flat.copy_(torch.where(rows, self._agent.online.flat, self._kept.flat))
        self._kept_means.copy_(torch.where(better, means, self._kept_means))

    def _play(
        self, network: StackedNetwork, purpose: Purpose, count: int
    ) -> Generator[Progress, None, Episodes]:
        """Play `count` greedy episodes with each agent of `network`."""
        playing = play(network, self._env_id, self._streams(purpose), count)
        step, work = self._step + self._eval_every, 0.0
        while True:
            try:
                next(playing)
            except StopIteration as end:
                episodes: Episodes = end.value
                break
            work += count / _STEPS_PER_PROGRESS
            if work >= 1.0:
                work = 0.0
                yield Progress(step=step)
        self._refuse_non_finite("return of a greedy episode", episodes.returns.sum(1))
        return episodes

    def _streams(self, purpose: Purpose) -> list[np.random.SeedSequence]:
        return [stream(seed, self.segment, purpose) for seed in self._seeds]

    def _flops_per_update(self) -> float:
        """Roughly: three forward passes and a backward one, two operations per parameter each."""
        return 10.0 * self._params.batch_size * self._agent.online.flat.numel()

    def _refuse_non_finite(self, what: str, values: NDArray[np.floating]) -> None:
        """Raise for the first agent whose value [S] of `what` is not finite, at a segment's end."""
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            agent, step = int(bad[0]), self._step + self._eval_every
            raise NonFiniteError(
                f"agent {agent} (seed {self._seeds[agent]}): {what} is not finite at step {step}"
            )

    def state(self) -> dict[str, Tensor]:
        """Return everything a resumed training needs, as plain tensors by name.

        Valid at the end of a segment and before the first; there is no generator state, because
        each segment makes its generators anew.
        """
        kept = {"networks": self._kept.flat.clone(), "means": self._kept_means.clone()}
        parts = {"agent": self._agent.state(), "replay": self._replay.state(), "kept": kept}
        state = {f"{part}.{name}": x for part, xs in parts.items() for name, x in xs.items()}
        return {"segment": torch.tensor(self.segment), **state}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue where `state` was taken, in a Training made with the same arguments.

        Raises:
            ValueError: the state is that of other networks or another number of agents.
        """
        found, wanted = tuple(state["agent.online"].shape), tuple(self._agent.online.flat.shape)
        if found != wanted:
            raise ValueError(f"the state is of agents and parameters {found}, not {wanted}")
        self._agent.load_state(_part(state, "agent"))
        self._replay.load_state(_part(state, "replay"))
        self._kept.flat.copy_(state["kept.networks"])
        self._kept_means.copy_(state["kept.means"])
        self.segment = int(state["segment"])

    def networks(self) -> dict[str, NDArray[np.float32]]:
        """Return the networks that were scored by layer, stacked: `q.0.weight` [S, in, out] …."""
        return self._kept.named_arrays()


def _part(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): x for key, x in state.items() if key.startswith(prefix)}
