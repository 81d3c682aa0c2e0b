"""The settings that agents are compared on, and Stable-Baselines3's agent with each of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from unittest import mock

from worker.trainers.dqn.params import Params

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
            max_grad_norm=1e9,  # CleanRL scales no gradient down
            net_arch=(120, 84),
            loss="mse",
            double_q=False,
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
            double_q=False,
        ),
    ),
}


# Steps that are timed: long enough past `learning_starts`, short enough to be repeated, and whole
# rounds, because Stable-Baselines3 ends no round early.
TIMED_STEPS = {"light": 30_000, "heavy": 19 * 256}


def updates(params: Params, steps: int) -> int:
    """Gradient steps of an agent in so many environment steps."""
    freq, starts = params.train_freq, params.learning_starts
    return max(0, steps // freq - starts // freq) * params.updates_per_round


def sb3_model(params: Params, *, seed: int) -> Any:
    """Stable-Baselines3's DQN with our hyperparameters, which are named as its own."""
    from stable_baselines3 import DQN
    from torch.nn import functional

    class Mse(DQN):
        """With the squared error, which its own has no argument for."""

        def train(self, *args: Any, **kwargs: Any) -> None:
            with mock.patch.object(functional, "smooth_l1_loss", functional.mse_loss):
                super().train(*args, **kwargs)

    given = asdict(params)
    net_arch = given.pop("net_arch")
    loss, *others = (given.pop(name) for name in ("loss", "double_q", "normalize", "precision"))
    assert others == [False, "none", "fp32"], "SB3 knows no other"
    kind = Mse if loss == "mse" else DQN
    return kind(
        "MlpPolicy",
        "CartPole-v1",
        policy_kwargs={"net_arch": list(net_arch)},
        seed=seed,
        device="cpu",
        **given,
    )
