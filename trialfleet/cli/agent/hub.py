"""A folder as the Hugging Face hub takes it, written locally and sent nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.numpy import load

from coordinator.certainty import certainty
from trialfleet.cli.agent.card import Played, model_card
from trialfleet.cli.agent.export import onnx_bytes, sb3_bytes
from trialfleet.cli.agent.files import write
from trialfleet.cli.agent.save import save_bytes
from trialfleet.cli.agent.video import film_model
from trialfleet.errors import FleetError, UsageError
from trialfleet.store.studies import Study
from worker.trainers.environment import Environment
from worker.trainers.registry import saved_agents
from worker.trainers.threads import use_one_blas_thread

_EPISODES = 100  # that the agent is measured on; nothing was chosen by them
_SEED = 2**31  # of their starts


def export_hub(study: Study, data: bytes, folder: Path) -> tuple[Path, list[str]]:
    """Write NAME-hub with model card, model, results and video.

    Returns:
        The folder, and a line for each file that is left out, with the reason.

    Raises:
        UsageError: A file cannot be written, or the agent does not fit its environment.
    """
    assert study.result is not None
    manifest = study.result["model"]
    home = folder / f"{study.name}-hub"
    arrays = load(data)
    played = _play(arrays, manifest, study)
    path = save_bytes(study, data, home)
    left_out: list[str] = []

    def optional(name: str, make: Callable[[Path], object]) -> bool:
        try:
            make(home / name)
        except FleetError as exc:
            left_out.append(f"{name} left out: {exc}")
            (home / name).unlink(missing_ok=True)  # of an earlier export
            return False
        return True

    def put(path: Path, data: bytes) -> None:
        write(path, data, option="--out")

    makers: dict[str, Callable[[Path], object]] = {
        f"{study.name}.onnx": lambda to: put(to, onnx_bytes(arrays, manifest)),
        f"{study.name}.zip": lambda to: put(to, sb3_bytes(arrays, manifest)),
        # The hub's pages show a video of this name.
        "replay.mp4": lambda to: film_model(path, to, episodes=3, seed=_SEED),
    }
    there = {name for name, make in makers.items() if optional(name, make)}
    put(home / "results.json", json.dumps(_results(study, played), indent=2).encode() + b"\n")
    put(home / "README.md", model_card(study, played, files=there).encode())
    return home, left_out


def _play(arrays: dict[str, Any], manifest: dict[str, Any], study: Study) -> Played:
    use_one_blas_thread()
    task = manifest["task"]
    try:
        agents = saved_agents(task.get("algorithm", "dqn"))
        returns = agents.play_saved(
            arrays, Environment.of_task(task), seed=_SEED, episodes=_EPISODES
        )  # [E]
    except ValueError as exc:
        raise UsageError(f"the agent cannot be exported: {exc}") from exc
    return Played(
        episodes=_EPISODES,
        mean=float(returns.mean()),
        deviation=float(returns.std()),
        certainty=certainty(returns.tolist(), study.spec.returns),
    )


def _results(study: Study, played: Played) -> dict[str, Any]:
    """The first four are named as the hub's reinforcement-learning models name them."""
    return {
        "mean_reward": played.mean,
        "std_reward": played.deviation,
        "is_deterministic": True,
        "n_eval_episodes": played.episodes,
        "interval": played.certainty.ends and [*played.certainty.ends],
        "interval_told": played.certainty.told(like=played.mean),
        "study": study.name,
        "study_file": json.loads(study.spec.to_json()),
        "final_stage": study.result,
    }
