"""The training loop: when it does what, and that its result is a function of its arguments."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from tests.unit.dqn.settings import PARAMS
from tests.unit.dqn.short import evaluations, training
from worker.trainers.dqn.agent import Agent
from worker.trainers.dqn.evaluate import Episodes, evaluate, play
from worker.trainers.dqn.network import StackedNetwork, load_network
from worker.trainers.dqn.replay import ReplayMemory
from worker.trainers.dqn.train import Progress, Training


def test_every_segment_ends_in_an_evaluation_and_the_last_in_the_score() -> None:
    running = training()
    assert (running.segment, running.segments) == (0, 3)
    ends = evaluations(running)
    assert [end.segment for end in ends] == [1, 2, 3]
    assert [end.step for end in ends] == [300, 600, 900]
    assert [end.returns.shape for end in ends] == [(2, 2), (2, 2), (2, 3)]
    assert [end.epsilon for end in ends] == [0.1, 0.1, 0.1]
    assert ends[0].returns.dtype == np.float64
    assert np.array_equal(ends[0].returns, ends[0].lengths)  # CartPole pays 1 a step
    assert all(end.loss is not None and (end.loss > 0).all() for end in ends)
    assert running.segment == 3
    assert list(running.run()) == []


def test_a_segment_without_updates_has_no_loss() -> None:
    ends = evaluations(training(params=replace(PARAMS, learning_starts=600)))
    assert [end.loss is None for end in ends] == [True, True, False]


def test_steps_that_do_not_divide_into_segments_are_refused() -> None:
    with pytest.raises(ValueError, match="no whole number"):
        Training(
            "CartPole-v1",
            PARAMS,
            [1],
            train_steps=1000,
            eval_every=300,
            eval_episodes=1,
            score_episodes=1,
        )


@pytest.mark.parametrize(
    ("train_freq", "gradient_steps", "learning_starts", "wanted"),
    [
        (1, 1, 0, 900),
        (1, 1, 100, 800),  # the first update follows step 101, as in Stable-Baselines3
        (4, 1, 100, 200),
        (4, 1, 99, 201),
        (4, 3, 100, 600),
        (4, -1, 100, 800),
        (7, 1, 0, 128),  # rounds go on across the ends of segments
        (7, -1, 0, 896),
        (1000, 5, 0, 0),
        (4, 1, 900, 0),
    ],
)
def test_updates_are_as_many_as_asked(
    train_freq: int, gradient_steps: int, learning_starts: int, wanted: int
) -> None:
    params = replace(
        PARAMS,
        train_freq=train_freq,
        gradient_steps=gradient_steps,
        learning_starts=learning_starts,
        net_arch=(4,),
        batch_size=2,
    )
    running = training(params=params, seeds=[1])
    evaluations(running)
    assert int(running.state()["agent.updates"]) == wanted


@pytest.mark.parametrize(("interval", "wanted"), [(1, 900), (30, 30), (400, 2), (901, 0)])
def test_the_target_is_updated_every_so_many_environment_steps(
    interval: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches an interval counted in updates, and one that starts over with every segment."""
    calls: list[int] = []
    original = Agent.update_target

    def counted(agent: Agent) -> None:
        calls.append(agent.updates)
        original(agent)

    monkeypatch.setattr(Agent, "update_target", counted)
    evaluations(training(params=replace(PARAMS, target_update_interval=interval, net_arch=(4,))))
    assert len(calls) == wanted
    if interval == 30:
        # The target moves before the updates of its step: at step 60, two rounds follow step 50.
        assert calls[:3] == [0, 2 * 2, 2 * 10]


def test_an_update_may_sample_every_step_there_has_been(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches steps that are still staged when the updates begin."""
    sizes: list[int] = []
    original = ReplayMemory.rows

    def noted(memory: ReplayMemory, words: np.ndarray) -> torch.Tensor:
        sizes.append(int(memory.sizes[0]))
        return original(memory, words)

    monkeypatch.setattr(ReplayMemory, "rows", noted)
    evaluations(training([1], replace(PARAMS, train_freq=1, learning_starts=0, net_arch=(4,))))
    assert sizes[:8] == [1, 2, 3, 4, 5, 6, 7, 8]  # no episode is shorter


def test_the_networks_act_only_where_an_agent_does_not_explore(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0
    original = Agent.act

    def counted(agent: Agent, observations: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return original(agent, observations)

    monkeypatch.setattr(Agent, "act", counted)
    evaluations(training(params=replace(PARAMS, learning_starts=400, exploration_final_eps=0.0)))
    assert calls == 500


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_networks_that_are_kept_are_the_ones_that_are_scored(
    keep: Literal["best", "last"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agent 0 is best at the first evaluation, agent 1 as good at the last as before."""
    means = iter([[9.0, 5.0], [3.0, 7.0], [8.0, 7.0]])
    online: list[torch.Tensor] = []
    scored: list[torch.Tensor] = []

    def played(network: StackedNetwork, *args: Any) -> Generator[None, None, Episodes]:
        episodes = yield from play(network, *args)
        if len(scored) + len(online) == 3:
            scored.append(network.flat.clone())
            return episodes
        online.append(network.flat.clone())
        return episodes._replace(returns=np.repeat(np.array([next(means)]).T, 2, axis=1))

    monkeypatch.setattr("worker.trainers.dqn.train.play", played)
    running = training(keep=keep)
    evaluations(running)
    if keep == "best":
        assert torch.equal(scored[0][0], online[0][0])
        assert torch.equal(scored[0][1], online[2][1]), "of equals, the later"
    else:
        # Two evaluations and the score: what was played last is what was learned last.
        assert torch.equal(online[2], running._agent.online.flat)
    kept = running.networks()["q.0.weight"]
    assert np.array_equal(kept, running._kept.layers[0][0].detach().numpy())


def test_progress_comes_often_however_dear_a_round_of_updates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = [event.step for event in training().run() if isinstance(event, Progress)]
    assert len(steps) >= 3
    assert steps == sorted(steps)
    monkeypatch.setattr("worker.trainers.dqn.train._FLOPS_PER_PROGRESS", 1.0)
    dear = replace(PARAMS, train_freq=300, gradient_steps=20, batch_size=512)
    running = training(params=dear)
    in_round = [e.step for e in running.run() if isinstance(e, Progress)].count(600)
    assert in_round >= 20


def test_only_the_first_episode_of_an_environment_counts() -> None:
    """Catches returns that go on past an end, and an average that favours short episodes."""
    network = load_network({"q.0.weight": np.zeros((2, 4), np.float32), "q.0.bias": np.eye(2)[0]})
    played = evaluate(network, "CartPole-v1", [np.random.SeedSequence(0)], 40)
    assert played.returns.shape == (1, 40)
    assert 8 <= played.returns.min() < played.returns.max() <= 11  # always left: 8 to 10 steps
