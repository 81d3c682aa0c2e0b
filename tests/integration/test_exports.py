"""The best agent in the formats of others does there what it does here."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnxruntime
import pytest
import yaml
from sqlalchemy import URL

from coordinator.certainty import certainty
from coordinator.watch import step
from tests.support.commands import command, told
from tests.support.models import balancing_arrays
from tests.support.server import plain
from tests.support.studies import create, take, train_by_hand
from trialfleet.cli.agent.card import Played, model_card, quoted, shown
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from worker.trainers.dqn.saved import SavedAgent, play_saved

SEEDS = [int(word) for word in np.random.SeedSequence(5).generate_state(6)]
EVIL = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a|b`c`[d](e)*f*"]


@pytest.fixture
def _here(database_url: URL, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(database_url))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def study(database: Database, _here: None) -> Study:
    """One whose best agent keeps a pole up."""
    return done(database, balancing_arrays())


def done(database: Database, arrays: Any = None) -> Study:
    study = create(database, trials=1, top=1, final_seeds=2)
    for _ in ("search", "final"):
        train_by_hand(database, study, take(database), scores=[1.0, 3.0], arrays=arrays)
        step(database, study.name)
    return studies.find(database, study.name)


@pytest.mark.usefixtures("study")
def test_stable_baselines3_gets_the_same_returns(tmp_path: Path) -> None:
    from stable_baselines3 import DQN
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import DummyVecEnv

    assert command("best", "--format", "sb3", "-o", "out") == 0
    model = DQN.load(tmp_path / "out" / "trivial.zip")
    theirs: list[float] = []
    for seed in SEEDS:
        env = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")])
        env.seed(seed)
        returns, _ = evaluate_policy(
            model, env, n_eval_episodes=1, return_episode_rewards=True, warn=False
        )
        assert isinstance(returns, list)
        theirs += returns
    ours = play_saved(balancing_arrays(), "CartPole-v1", seed=5, episodes=len(SEEDS))
    assert theirs == ours.tolist()
    assert len(set(theirs)) > 3
    # A training can go on there with the same numbers, and both networks are the agent's.
    assert (model.batch_size, model.buffer_size, model.gradient_steps) == (4, 16, 1)
    for name, tensor in model.q_net.state_dict().items():
        assert tensor.equal(model.q_net_target.state_dict()[name])


@pytest.mark.usefixtures("study")
def test_onnx_runtime_does_the_same_actions(tmp_path: Path) -> None:
    assert command("best", "--format", "onnx", "-o", "out") == 0
    session = onnxruntime.InferenceSession(tmp_path / "out" / "trivial.onnx")
    assert [each.name for each in session.get_outputs()] == ["action"]
    assert session.get_modelmeta().custom_metadata_map["environment"] == "CartPole-v1"
    agent = SavedAgent(balancing_arrays())
    observations = np.array(list(recorded(agent)))
    (actions,) = session.run(["action"], {"observation": observations})
    assert actions.tolist() == agent.act(observations).tolist()
    assert 0.2 < actions.mean() < 0.8
    (one,) = session.run(["action"], {"observation": observations[:1]})
    assert one.shape == (1,)


def recorded(agent: SavedAgent) -> Iterator[np.ndarray[Any, Any]]:
    env = gymnasium.make("CartPole-v1")
    for seed in SEEDS:
        observation, _ = env.reset(seed=seed)
        ended = False
        while not ended:
            yield observation
            action = int(agent.act(observation[None])[0])
            observation, _, terminated, truncated, _ = env.step(action)
            ended = terminated or truncated
    env.close()


def test_a_folder_for_the_hub_has_all_that_it_shows(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("best", "--format", "hub") == 0
    assert "saved: models/trivial-hub" in capsys.readouterr().out
    home = tmp_path / "models" / "trivial-hub"
    assert sorted(path.name for path in home.iterdir()) == [
        "README.md",
        "replay.mp4",
        "results.json",
        "trivial.json",
        "trivial.onnx",
        "trivial.safetensors",
        "trivial.zip",
    ]
    results = json.loads((home / "results.json").read_text())
    assert results["final_stage"] == json.loads(json.dumps(study.result))
    card = (home / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["library_name"] == "stable-baselines3"
    assert {"CartPole-v1", "dqn", "reinforcement-learning"} <= set(metadata["tags"])
    (index,) = metadata["model-index"]
    (found,) = index["results"]
    assert (index["name"], found["dataset"]["type"]) == ("trivial", "CartPole-v1")
    (metric,) = found["metrics"]
    returns = play_saved(balancing_arrays(), "CartPole-v1", seed=2**31, episodes=100)
    assert metric["type"] == "mean_reward"
    assert metric["value"] == f"{returns.mean():.2f} +/- {returns.std():.2f}"
    assert results["mean_reward"] == pytest.approx(returns.mean())
    low, high = results["interval"]
    assert low < returns.mean() < high
    for part in (f"{low:.1f} … {high:.1f}", "DQN.load", "onnxruntime", "`replay.mp4`"):
        assert part in card


@pytest.mark.usefixtures("study")
def test_the_hub_gets_what_there_is_and_hears_of_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("stable_baselines3", "onnx", "imageio_ffmpeg"):
        monkeypatch.setitem(sys.modules, module, None)
    for module in ("onnx_graph", "sb3_zip"):
        monkeypatch.delitem(sys.modules, f"worker.trainers.dqn.exports.{module}", raising=False)
    assert command("best", "--format", "hub") == 0
    said = capsys.readouterr().out
    for extra in ("sb3", "onnx", "play"):
        assert f'pip install "trialfleet[{extra}]"' in said
    card = (tmp_path / "models" / "trivial-hub" / "README.md").read_text(encoding="utf-8")
    for part in ("DQN.load", "onnxruntime", "replay.mp4", "stable-baselines3"):
        assert part not in card
    assert command("best", "--format", "onnx") == 2
    assert 'pip install "trialfleet[onnx]"' in told(capsys)


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("kind", ["sb3", "onnx", "hub"])
def test_an_agent_with_another_network_is_refused(
    database: Database, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    done(database)
    capsys.readouterr()
    assert command("best", "--format", kind) == 2
    assert "not the arrays of a Q-network" in told(capsys)


@pytest.mark.usefixtures("study")
def test_a_folder_that_cannot_be_written_to_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    (tmp_path / "file").touch()
    assert command("best", "--format", "onnx", "--out", "file") == 2
    assert "--out: cannot write to 'file/trivial.onnx'" in told(capsys)


@pytest.mark.parametrize("evil", EVIL)
def test_names_show_as_text_in_a_model_card(study: Study, evil: str) -> None:
    spec = study.spec
    task = spec.task.model_copy(update={"env": evil})
    study.__dict__["spec"] = spec.model_copy(update={"name": evil, "task": task})
    assert study.result is not None
    study.result["model"]["device"] = evil
    study.result["model"]["params"][evil] = evil
    sure = certainty([0.5, 1.0, 1.5], None)
    played = Played(episodes=3, mean=1.0, deviation=0.5, certainty=sure)
    card = model_card(study, played, files={"trivial.zip", "trivial.onnx"})
    _, metadata, text = card.split("---\n", 2)
    read = yaml.safe_load(metadata)
    assert read["model-index"][0]["results"][0]["dataset"]["name"] == evil
    assert evil in read["tags"]
    assert "<script" not in card
    assert "<img" not in card
    assert "[d](e)" not in text.replace(quoted(evil), "")
    assert f"| {shown(evil)} | {shown(evil)} |" in text


def test_an_apostrophe_in_a_model_card_stays_one() -> None:
    assert shown("Student's t of a < b & c#") == "Student's t of a &lt; b &amp; c\\#"
