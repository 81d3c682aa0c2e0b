"""A small DQN that the tests vary one field at a time with `dataclasses.replace`."""

from __future__ import annotations

from worker.trainers.dqn.params import Params

PARAMS = Params(
    learning_rate=1e-3,
    gamma=0.98,
    batch_size=16,
    buffer_size=500,
    learning_starts=50,
    train_freq=4,
    gradient_steps=2,
    target_update_interval=30,
    tau=1.0,
    exploration_initial_eps=1.0,
    exploration_fraction=0.3,
    exploration_final_eps=0.1,
    max_grad_norm=10.0,
    net_arch=(16, 16),
    loss="huber",
    double_q=True,
)
