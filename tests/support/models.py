"""A saved agent that nobody has trained."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save


def saved_agent(folder: Path, *, env: str = "CartPole-v1", observations: int = 4) -> Path:
    """Its two files: `observations` in, one hidden layer, two actions, and all of it zero."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for layer, (inputs, outputs) in enumerate(pairwise([observations, 8, 2])):
        arrays[f"q.{layer}.weight"] = np.zeros((outputs, inputs), np.float32)
        arrays[f"q.{layer}.bias"] = np.zeros(outputs, np.float32)
    path = folder / "agent.safetensors"
    seal(path, save(arrays), env=env)
    return path


def balancing_arrays(bias: float = 0.2) -> dict[str, np.ndarray[Any, Any]]:
    """An agent that keeps CartPole's pole up: for ever, or with this `bias` for 150 to 210 steps.

    It pushes to where the pole falls, as two of its hidden units see it; the others disturb it.
    """
    rng = np.random.default_rng(0)
    hidden = rng.uniform(-0.3, 0.3, (8, 4)).astype(np.float32)
    falling = np.array([0.0, 0.1, 1.0, 0.35], np.float32)
    hidden[0], hidden[1] = falling, -falling
    values = rng.uniform(-0.05, 0.05, (2, 8)).astype(np.float32)
    values[:, :2] = [[-1.0, 1.0], [1.0, -1.0]]
    return {
        "q.0.weight": hidden,
        "q.0.bias": rng.uniform(-0.01, 0.01, 8).astype(np.float32),
        "q.1.weight": values,
        "q.1.bias": np.array([0.0, bias], np.float32),
    }


def balancing_agent(folder: Path, *, env: str = "CartPole-v1") -> Path:
    """Its two files."""
    path = folder / "agent.safetensors"
    seal(path, save(balancing_arrays()), env=env)
    return path


def seal(path: Path, data: bytes, *, env: str = "CartPole-v1") -> None:
    """Write the bytes and a manifest that matches them."""
    path.write_bytes(data)
    manifest = {"sha256": hashlib.sha256(data).hexdigest(), "task": {"env": env}}
    path.with_suffix(".json").write_text(json.dumps(manifest), encoding="utf-8")
