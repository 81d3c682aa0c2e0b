"""The training loop: when it does what, and that its result is a function of its arguments."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from tests.unit.dqn.settings import PARAMS
from tests.unit.dqn.short import ends, evaluations, training
from worker.trainers.dqn.agent import Agent
from worker.trainers.dqn.episodes import Episodes, evaluate, mean_return_of_ended, play
from worker.trainers.dqn.network import StackedNetwork, load_network
from worker.trainers.dqn.replay import ReplayMemory
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import Evaluation, Job, Progress, Score

METRICS = {"return", "length", "loss", "q_mean", "epsilon", "episode_return", "steps_per_second"}


def test_every_segment_ends_in_an_evaluation_and_the_training_in_the_score() -> None:
    running = training()
    assert (running.segment, running.segments) == (0, 3)
    *segments, score = ends(running)
    assert [end.step for end in segments] == [300, 600, 900]
    for end in segments:
        assert isinstance(end, Evaluation)
        assert set(end.metrics) == METRICS
        assert {each.shape for each in end.metrics.values()} == {(2,)}
        assert {each.dtype for each in end.metrics.values()} == {np.dtype(np.float64)}
        # CartPole pays 1 a step, in episodes of both kinds.
        assert np.array_equal(end.metrics["return"], end.metrics["length"])
        assert (end.metrics["episode_return"] >= 8).all()
        assert (end.metrics["loss"] > 0).all()
        assert (end.metrics["q_mean"] != 0).all()
        assert end.metrics["epsilon"].tolist() == [0.1, 0.1]
        assert (end.metrics["steps_per_second"] > 0).all()
    assert isinstance(score, Score)
    assert (score.step, score.returns.shape) == (900, (2,))
    assert running.segment == 3
    # A training that was stopped before its score has nothing else left to do.
    *_, again = running.run()
    assert evaluations(running) == []
    assert isinstance(again, Score)
    assert np.array_equal(again.returns, score.returns)


def test_a_segment_without_updates_has_no_loss() -> None:
    found = evaluations(training(params=replace(PARAMS, learning_starts=600)))
    assert ["loss" in end.metrics for end in found] == [False, False, True]


def test_the_return_of_training_episodes_is_of_those_that_ended() -> None:
    """Three agents: two episodes and the beginning of another, one at the very end, none."""
    rewards = np.array([[1, 2, 9], [10, 3, 9], [5, 4, 9], [100, 5, 9]], np.float64)
    ended = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0]], np.bool_)
    found = mean_return_of_ended(rewards, ended)
    assert np.array_equal(found, [8.0, 14.0, np.nan], equal_nan=True)


def test_the_values_shown_are_of_states_from_the_whole_memory() -> None:
    """Evenly spaced, and each agent's own."""
    memory = ReplayMemory(stack=2, capacity=8, observation_size=1)
    for step in range(8):
        seen = np.array([[step], [10 + step]], np.float32)
        memory.add(seen, np.zeros(2, np.int64), np.zeros(2), seen, np.zeros(2, np.bool_))
    assert memory.remembered(4)[..., 0].tolist() == [[0, 2, 4, 6], [10, 12, 14, 16]]


def test_steps_that_do_not_divide_into_segments_are_refused() -> None:
    with pytest.raises(ValueError, match="no whole number"):
        Training(
            Job(
                env="CartPole-v1",
                knobs=asdict(PARAMS),
                seeds=[1],
                train_steps=1000,
                eval_every=300,
                eval_episodes=1,
                score_episodes=1,
            )
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
        sizes.append(memory.size)
        return original(memory, words)

    monkeypatch.setattr(ReplayMemory, "rows", noted)
    evaluations(training([1], replace(PARAMS, train_freq=1, learning_starts=0, net_arch=(4,))))
    assert sizes == [*range(1, 501), *[500] * 400]  # every step is one, also after an end


def test_the_networks_act_only_where_an_agent_does_not_explore(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0
    original = StackedNetwork.greedy

    def counted(network: StackedNetwork, observations: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += observations.shape[1] == 1  # more where episodes are evaluated
        return original(network, observations)

    monkeypatch.setattr(StackedNetwork, "greedy", counted)
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
        if len(online) == 3:
            scored.append(network.flat.clone())
            return episodes
        online.append(network.flat.clone())
        return episodes._replace(returns=np.repeat(np.array([next(means)]).T, 2, axis=1))

    monkeypatch.setattr("worker.trainers.dqn.stepping.episodes.play", played)
    running = training(keep=keep)
    ends(running)
    if keep == "best":
        assert torch.equal(scored[0][0], online[0][0])
        assert torch.equal(scored[0][1], online[2][1]), "of equals, the later"
    else:
        assert torch.equal(scored[0], running._agent.online.flat)
    assert torch.equal(online[2], running._agent.online.flat), "the last evaluation is of them"
    assert torch.equal(load_network(running.result()).flat, scored[0])


def test_progress_comes_often_however_dear_a_round_of_updates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.trainers.dqn.trainer._SECONDS_PER_PROGRESS", 0.0)
    dear = replace(PARAMS, train_freq=300, gradient_steps=20, batch_size=512)
    running = training(params=dear)
    steps = [event.step for event in running.run() if isinstance(event, Progress)]
    assert steps == sorted(steps)
    assert set(steps) == set(range(1, 901))
    assert steps.count(600) >= 20 + 8, "within a round, and in the episodes of an evaluation"


def test_only_the_first_episode_of_an_environment_counts() -> None:
    """Catches returns that go on past an end, and an average that favours short episodes."""
    network = load_network({"q.0.weight": np.zeros((2, 4), np.float32), "q.0.bias": np.eye(2)[0]})
    played = evaluate(network, "CartPole-v1", [np.random.SeedSequence(0)], 40)
    assert played.returns.shape == (1, 40)
    assert 8 <= played.returns.min() < played.returns.max() <= 11  # always left: 8 to 10 steps
