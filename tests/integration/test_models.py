"""A saved agent is played, or refused in one line that says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tests.support.models import saved_agent, seal
from trialfleet.cli.replay import evaluate_model
from trialfleet.errors import FleetError, UsageError


def test_an_untrained_agent_plays(tmp_path: Path) -> None:
    said = evaluate_model(saved_agent(tmp_path), episodes=10, seed=0)
    # It always pushes the same way, so the pole falls within ten steps or so.
    mean = float(said.split("mean return ")[1].split()[0])
    assert 8 <= mean <= 11
    assert "CartPole-v1" in said
    assert "over 10 episodes" in said


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def manifest(content: str) -> Callable[[Path], object]:
    return lambda path: path.with_suffix(".json").write_text(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one_bit": (one_bit, "its bytes do not match the SHA-256 of its manifest"),
    "no_file": (Path.unlink, "cannot be read: No such file"),
    "no_manifest": (lambda path: path.with_suffix(".json").unlink(), "cannot be read: No such"),
    "no_json": (manifest("{"), "not the manifest of an agent"),
    "a_list": (manifest("[]"), "not the manifest of an agent"),
    "nothing_in_it": (manifest("{}"), "not the manifest of an agent"),
    "no_safetensors": (lambda path: seal(path, b"\x80\x04pickle"), "not a safetensors file"),
    "empty": (lambda path: seal(path, b""), "not a safetensors file"),
    "other_arrays": (
        lambda path: seal(path, save({"x": np.zeros(3, np.float32)})),
        "not the arrays of a Q-network",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_model_is_refused(tmp_path: Path, name: str) -> None:
    damage, says = DAMAGES[name]
    path = saved_agent(tmp_path)
    damage(path)
    with pytest.raises(UsageError, match=says) as refused:
        evaluate_model(path, episodes=1, seed=0)
    assert "agent." in str(refused.value)


@pytest.mark.parametrize("env", ["Acrobot-v1", "MountainCar-v0"])
def test_a_model_of_another_environment_is_refused(tmp_path: Path, env: str) -> None:
    with pytest.raises(UsageError, match=f"its network does not fit {env}"):
        evaluate_model(saved_agent(tmp_path, env=env), episodes=1, seed=0)


def test_a_model_of_an_unknown_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="not a registered environment"):
        evaluate_model(saved_agent(tmp_path, env="Nothing-v0"), episodes=1, seed=0)


def test_what_is_no_model_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "agent.pt").write_bytes(b"")
    with pytest.raises(UsageError, match="a saved agent is a"):
        evaluate_model(tmp_path / "agent.pt", episodes=1, seed=0)
