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


def seal(path: Path, data: bytes, *, env: str = "CartPole-v1") -> None:
    """Write the bytes and a manifest that matches them."""
    path.write_bytes(data)
    manifest = {"sha256": hashlib.sha256(data).hexdigest(), "task": {"env": env}}
    path.with_suffix(".json").write_text(json.dumps(manifest), encoding="utf-8")
