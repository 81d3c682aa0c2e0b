"""Compile now what would otherwise be compiled when the first trial begins.

python -m worker.trainers.dqn.compiled
"""

from __future__ import annotations

from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import Job
from worker.trainers.registry import compiled_arithmetic
from worker.trainers.threads import use_one_thread


def main() -> None:
    """Train for a moment, in a compiled environment and in another."""
    use_one_thread()
    compiled_arithmetic()
    for env in ("CartPole-v1", "FrozenLake-v1"):
        job = Job(
            env=env,
            knobs={"learning_starts": 0, "net_arch": (2,), "batch_size": 2},
            seeds=[1],
            train_steps=4,
            eval_every=4,
            eval_episodes=1,
            score_episodes=1,
            compiled=True,
        )
        training = Training(job)
        for _ in training.run():
            pass
        training.close()


if __name__ == "__main__":
    main()
