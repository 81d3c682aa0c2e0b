"""The band that the learner's figures lie in on a short run, and how it is made.

python -m tests.learning.band

trains 32 disjoint sets of seeds (about a minute) and writes band.json beside this file: for each
figure the mean over the sets, and six standard deviations to each side. Make it anew where learning
is meant to change, and say in the commit why it did.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from worker.trainers.dqn.network import load_network
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import Evaluation, Job, Score
from worker.trainers.threads import use_one_thread

FILE = Path(__file__).with_name("band.json")
AGENTS = 8  # in a set of seeds
_SETS = 32
_DEVIATIONS = 6.0

PARAMS = Params(
    learning_rate=1e-3,
    gamma=0.95,
    batch_size=64,
    buffer_size=4_000,
    learning_starts=500,
    train_freq=2,
    gradient_steps=1,
    target_update_interval=100,
    tau=1.0,
    exploration_initial_eps=1.0,
    exploration_fraction=0.5,
    exploration_final_eps=0.05,
    max_grad_norm=10.0,
    net_arch=(32, 32),
    loss="huber",
    double_q=True,
)
_STEPS = 4_000

Figures = dict[str, float]


class Lock(gymnasium.Env[Any, Any]):
    """Thirty doors in a row: the right action opens the next and pays 1, the wrong one ends it.

    A random policy sees no further than about the eleventh door in 2,000 attempts, so only who
    gives exploration up gets through; and the wrong action is worth exactly nothing, unless ends
    are taken for something else.
    """

    doors = 30
    opens = tuple(int(bit) for bit in f"{0x1A3C96D5:030b}")
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (doors,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self._door = 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        right = int(action) == self.opens[self._door]
        self._door += right
        done = not right or self._door == self.doors
        return self._observation(), float(right), done, False, {}

    def _observation(self) -> NDArray[np.float32]:
        beyond = self.doors + 1  # behind the last door nothing is seen
        row: NDArray[np.float32] = np.eye(beyond, self.doors, dtype=np.float32)[self._door]
        return row


@contextmanager
def lock_registered() -> Iterator[str]:
    """The id under which Gymnasium makes a Lock meanwhile."""
    gymnasium.register("Lock-v0", lambda **_: Lock(), max_episode_steps=100)
    try:
        yield "Lock-v0"
    finally:
        del gymnasium.registry["Lock-v0"]


def figures(seeds: Sequence[int]) -> Figures:
    """Train agents of these seeds on the lock; means over them."""
    with lock_registered() as env_id:
        training = Training(
            Job(
                env=env_id,
                knobs=asdict(PARAMS),
                seeds=seeds,
                train_steps=_STEPS,
                eval_every=_STEPS // 2,
                eval_episodes=1,
                score_episodes=1,
                keep="last",
            )
        )
        first, second, score = [e for e in training.run() if isinstance(e, Evaluation | Score)]
    assert isinstance(first, Evaluation)
    assert isinstance(second, Evaluation)
    assert isinstance(score, Score)
    network = load_network(training.result())
    nearest = torch.eye(Lock.doors)[:6].expand(len(seeds), -1, -1)  # doors that all have seen
    values = network(nearest).detach().numpy().mean(axis=0)  # [6, 2]
    right = np.array(Lock.opens[:6])
    return {
        "doors opened half-way": float(first.metrics["return"].mean()),
        "doors opened at the end": float(score.returns.mean()),
        "value of the right action": float(values[np.arange(6), right].mean()),
        "value of the wrong action": float(values[np.arange(6), 1 - right].mean()),
        "loss in the second half": float(second.metrics["loss"].mean()),
    }


def read() -> dict[str, tuple[float, float]]:
    """The stored band: lowest and highest of each figure."""
    return {name: (low, high) for name, (low, high) in json.loads(FILE.read_text()).items()}


def outside(found: Figures) -> list[str]:
    """The figures that are not in the stored band."""
    return [name for name, (low, high) in read().items() if not low <= found[name] <= high]


def main() -> None:
    """Make the band, and store it."""
    use_one_thread()
    sets = [range(n * AGENTS, (n + 1) * AGENTS) for n in range(_SETS)]
    found = [figures(seeds) for seeds in sets]
    band = {}
    for name in found[0]:
        values = np.array([each[name] for each in found])
        half = _DEVIATIONS * values.std(ddof=1)
        band[name] = [round(float(end), 4) for end in (values.mean() - half, values.mean() + half)]
        print(f"{name:26} {values.min():8.4f} … {values.max():8.4f}, band {band[name]}")
    FILE.write_text(json.dumps(band, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
