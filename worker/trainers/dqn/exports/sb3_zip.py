"""A saved agent as the file that Stable-Baselines3's DQN loads."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3 import DQN

from worker.trainers.environment import EnvLike, as_environment, make_one

if TYPE_CHECKING:
    from worker.trainers.dqn.saved import Layers

# Names and meanings are the same there, so that a training can go on with the same numbers.
_SHARED = (
    "learning_rate",
    "gamma",
    "batch_size",
    "buffer_size",
    "learning_starts",
    "train_freq",
    "gradient_steps",
    "target_update_interval",
    "tau",
    "exploration_initial_eps",
    "exploration_fraction",
    "exploration_final_eps",
    "max_grad_norm",
)


def zip_of(layers: Layers, environment: EnvLike, knobs: Mapping[str, Any]) -> bytes:
    """What `stable_baselines3.DQN.load` takes.

    Its networks are multilayer perceptrons with ReLU, as ours are. It is a plain DQN: without
    Double Q-learning, and with Huber's loss.

    Args:
        layers: Weights [out, in] and biases [out].
        environment: The agent's.
        knobs: What the agent was trained with.
    """
    env = make_one(as_environment(environment))
    try:
        model = DQN(
            "MlpPolicy",
            env,
            policy_kwargs={"net_arch": [len(bias) for _, bias in layers[:-1]]},
            device="cpu",
            **{name: knobs[name] for name in _SHARED if name in knobs},
        )
        state = {}
        for number, (weight, bias) in enumerate(layers):
            # Layers and activations are counted together there.
            state[f"q_net.{2 * number}.weight"] = torch.from_numpy(weight)
            state[f"q_net.{2 * number}.bias"] = torch.from_numpy(bias)
        model.q_net.load_state_dict(state)
        model.q_net_target.load_state_dict(state)
        buffer = io.BytesIO()
        model.save(buffer)
    finally:
        env.close()
    return buffer.getvalue()
