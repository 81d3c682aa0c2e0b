"""How many environment steps the batched DQN trains in a second, over all agents, on one thread.

python -m benchmarks.dqn_speed --agents 1 4 8
"""

from __future__ import annotations

import argparse
import time

import torch

from worker.dqn.params import Params
from worker.dqn.train import Evaluation, Training

# "light" is CleanRL's CartPole network and update rhythm; "heavy" is RL Zoo's for CartPole.
SETTINGS = {
    "light": (
        30_000,
        Params(
            learning_rate=2.5e-4,
            gamma=0.99,
            batch_size=128,
            buffer_size=10_000,
            learning_starts=10_000,
            train_freq=10,
            gradient_steps=1,
            target_update_interval=500,
            tau=1.0,
            exploration_initial_eps=1.0,
            exploration_fraction=0.5,
            exploration_final_eps=0.05,
            max_grad_norm=10.0,
            net_arch=(120, 84),
            loss="huber",
            double_q=True,
        ),
    ),
    "heavy": (
        50_000,
        Params(
            learning_rate=2.3e-3,
            gamma=0.99,
            batch_size=64,
            buffer_size=100_000,
            learning_starts=1_000,
            train_freq=256,
            gradient_steps=128,
            target_update_interval=10,
            tau=1.0,
            exploration_initial_eps=1.0,
            exploration_fraction=0.16,
            exploration_final_eps=0.04,
            max_grad_norm=10.0,
            net_arch=(256, 256),
            loss="huber",
            double_q=True,
        ),
    ),
}


def measure(name: str, agents: int) -> tuple[float, float]:
    """Return the agent-steps per second of a whole training, and its mean greedy return."""
    steps, params = SETTINGS[name]
    begin = time.perf_counter()
    training = Training(
        "CartPole-v1",
        params,
        range(agents),
        train_steps=steps,
        eval_every=steps // 5,
        eval_episodes=20,
        score_episodes=50,
    )
    score = float("nan")
    for event in training.run():
        if isinstance(event, Evaluation):
            score = float(event.returns.mean())
    return agents * steps / (time.perf_counter() - begin), score


def main() -> None:
    """Print one line for each setting and number of agents."""
    parser = argparse.ArgumentParser(
        description="Agent-steps per second of the batched DQN on CartPole-v1, with evaluations.",
        epilog="example: python -m benchmarks.dqn_speed --settings light --agents 1 8",
    )
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--agents", nargs="+", type=int, default=[1, 4, 8])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'setting':8} {'agents':>6} {'agent-steps/s':>14} {'score':>6}")
    for name in arguments.settings:
        for agents in arguments.agents:
            speed, score = measure(name, agents)
            print(f"{name:8} {agents:6} {speed:14,.0f} {score:6.1f}", flush=True)


if __name__ == "__main__":
    main()
