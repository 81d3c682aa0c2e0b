"""The best agent of a study in the formats of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from safetensors.numpy import load

from trialfleet.cli.agent.files import write
from trialfleet.cli.agent.save import best_model
from trialfleet.cli.extras import needs
from trialfleet.errors import UsageError
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from worker.trainers.environment import Environment
from worker.trainers.registry import saved_agents


def export(
    database: Database, study: Study, folder: Path, kind: Literal["sb3", "onnx", "hub"]
) -> tuple[Path, list[str]]:
    """Write the best agent in a format of others.

    Returns:
        Where it is, and a line for each part that is left out, with the reason.

    Raises:
        UsageError: What the format needs is not installed, the agent does not fit it, or a file
            cannot be written.
    """
    assert study.result is not None
    if study.spec.task.objective is not None:
        raise UsageError(
            "a model of your own training has no other formats: `trialfleet best --out FOLDER`"
            " writes the file that your function made of it"
        )
    manifest, data = study.result["model"], best_model(database, study)
    if kind == "hub":
        from trialfleet.cli.agent.hub import export_hub

        return export_hub(study, data, folder)
    convert, ending = {"onnx": (onnx_bytes, "onnx"), "sb3": (sb3_bytes, "zip")}[kind]
    path = folder / f"{study.name}.{ending}"
    write(path, convert(load(data), manifest), option="--out")
    return path, []


def onnx_bytes(arrays: Mapping[str, Any], manifest: Mapping[str, Any]) -> bytes:
    """A saved agent as an ONNX graph."""
    notes = {
        "study": manifest["study"],
        "environment": manifest["task"]["env"],
        "sha256": manifest["sha256"],
    }
    with needs("onnx"):
        return _exported(manifest, lambda agents: agents.export_onnx(arrays, notes))


def sb3_bytes(arrays: Mapping[str, Any], manifest: Mapping[str, Any]) -> bytes:
    """A saved agent as Stable-Baselines3 loads it."""
    env, params = Environment.of_task(manifest["task"]), manifest["params"]
    with needs("sb3"):
        return _exported(manifest, lambda agents: agents.export_sb3(arrays, env, params))


def _exported(manifest: Mapping[str, Any], how: Callable[[Any], bytes]) -> bytes:
    try:
        return how(saved_agents(manifest["task"].get("algorithm", "dqn")))
    except ValueError as exc:
        raise UsageError(f"the agent cannot be exported: {exc}") from exc
