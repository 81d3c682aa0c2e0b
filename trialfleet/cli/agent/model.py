"""The saved agent's two files, read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load

from trialfleet.errors import UsageError
from worker.trainers.environment import Environment
from worker.trainers.protocol import SavedAgent
from worker.trainers.registry import saved_agents


def open_agent(path: Path) -> tuple[SavedAgent, Environment]:
    """A saved agent, and its environment.

    Raises:
        UsageError: The file is no saved agent, or one for another environment.
        StudyFileError: There is no such environment here.
    """
    arrays, manifest = load_model(path)
    task = manifest["task"]
    env = Environment.of_task(task)
    try:
        return saved_agents(task.get("algorithm", "dqn")).load_agent(arrays, env), env
    except ValueError as exc:
        raise UsageError(f"{path}: {exc}") from exc


def load_model(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A saved agent's arrays and manifest, checked against its SHA-256.

    Raises:
        UsageError: The files are missing, damaged, or no saved agent.
    """
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: a saved agent is a .safetensors file with a .json beside it")
    try:
        data = path.read_bytes()
        manifest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        expected, task = manifest["sha256"], manifest["task"]
        if "objective" in task:
            raise UsageError(f"{path}: a model of your own training, which your own code plays")
        env = task["env"]
    except OSError as exc:
        raise UsageError(f"{exc.filename}: cannot be read: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise UsageError(f"{path.with_suffix('.json')}: not the manifest of an agent") from exc
    if not isinstance(env, str):
        raise UsageError(f"{path.with_suffix('.json')}: not the manifest of an agent")
    if hashlib.sha256(data).hexdigest() != expected:
        raise UsageError(f"{path}: its bytes do not match the SHA-256 of its manifest")
    try:
        # safetensors holds plain arrays only: nothing in it is ever executed.
        return load(data), manifest
    except SafetensorError as exc:
        raise UsageError(f"{path}: not a safetensors file: {exc}") from exc
