"""The training loop: when it does what, and that its result is a function of its arguments."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, Literal

import gymnasium
import numpy as np
import pytest
import torch

from tests.unit.dqn.settings import PARAMS
from worker.dqn.agent import Agent
from worker.dqn.evaluate import Episodes, evaluate, play
from worker.dqn.network import StackedNetwork, load_network
from worker.dqn.params import Params
from worker.dqn.randomness import Purpose, stream
from worker.dqn.replay import ReplayMemory
from worker.dqn.train import Evaluation, NonFiniteError, Progress, Training


def training(
    seeds: Sequence[int] = (1, 2),
    params: Params = PARAMS,
    env_id: str = "CartPole-v1",
    keep: Literal["best", "last"] = "last",
) -> Training:
    """Three segments of 300 steps."""
    return Training(
        env_id,
        params,
        seeds,
        train_steps=900,
        eval_every=300,
        eval_episodes=2,
        score_episodes=3,
        keep=keep,
    )


def evaluations(running: Training) -> list[Evaluation]:
    return [event for event in running.run() if isinstance(event, Evaluation)]


def fingerprint(running: Training) -> str:
    """A digest of everything that comes out of a training."""
    digest = hashlib.sha256()
    for end in evaluations(running):
        digest.update(end.returns.tobytes() + end.lengths.tobytes())
        digest.update(b"" if end.loss is None else end.loss.tobytes())
    for name, tensor in sorted(running.state().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    for array in running.networks().values():
        digest.update(array.tobytes())
    return digest.hexdigest()


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


def own_parts(running: Training, agent: int, ends: list[Evaluation]) -> dict[str, torch.Tensor]:
    """All that belongs to one agent."""
    state = running.state()
    size = int(state["replay.sizes"][agent])
    parts = {name: state[name][agent] for name in ("agent.online", "agent.target")}
    parts |= {name: state[name][agent] for name in ("agent.adam.exp_avg", "agent.adam.exp_avg_sq")}
    parts |= {"size": state["replay.sizes"][agent], "position": state["replay.positions"][agent]}
    parts["memory"] = state["replay.rows"][agent, :size]
    for end in ends:
        assert end.loss is not None
        parts[f"returns {end.segment}"] = torch.from_numpy(end.returns[agent])
        parts[f"loss {end.segment}"] = torch.tensor(end.loss[agent])
    return parts


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1"])
def test_an_agent_is_a_function_of_its_own_seed(env_id: str) -> None:
    """Catches any randomness, update or environment that agents share."""
    first, second = training([1, 2, 3], env_id=env_id), training([1, 9, 3], env_id=env_id)
    ends, other_ends = evaluations(first), evaluations(second)
    for agent, same in [(0, True), (1, False), (2, True)]:
        parts = own_parts(first, agent, ends)
        other_parts = own_parts(second, agent, other_ends)
        equal = {name: torch.equal(part, other_parts[name]) for name, part in parts.items()}
        if same:
            assert all(equal.values()), equal
        else:
            assert not equal["agent.online"]
            assert not equal["memory"]


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

    monkeypatch.setattr("worker.dqn.train.play", played)
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


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("boundary", [0, 1, 2])
def test_a_resumed_training_is_the_uninterrupted_one(
    boundary: int, keep: Literal["best", "last"]
) -> None:
    """To the bit, from any segment's end, with wrapped memories and rounds that straddle."""
    params = replace(PARAMS, buffer_size=250, train_freq=7)
    straight = training(params=params, keep=keep)
    saved: dict[str, torch.Tensor] = straight.state()
    found = []
    for event in straight.run():
        if isinstance(event, Evaluation):
            found.append(event)
            if event.segment == boundary:
                saved = {name: tensor.clone() for name, tensor in straight.state().items()}
    resumed = training(params=params, keep=keep)
    list(resumed.run())  # whatever it was before, it becomes what it is given
    resumed.load_state(saved)
    assert resumed.segment == boundary
    ends = evaluations(resumed)
    assert [end.segment for end in ends] == [1, 2, 3][boundary:]
    for end, wanted in zip(ends, found[boundary:], strict=True):
        assert np.array_equal(end.returns, wanted.returns)
        assert end.loss is not None
        assert wanted.loss is not None
        assert np.array_equal(end.loss, wanted.loss)
    for name, tensor in straight.state().items():
        assert torch.equal(tensor, resumed.state()[name]), name


def test_a_state_holds_plain_tensors_for_the_asking() -> None:
    running = training()
    evaluations(running)
    for name, tensor in running.state().items():
        assert isinstance(tensor, torch.Tensor), name
        assert tensor.is_contiguous(), name
        assert not tensor.requires_grad, name


def test_a_state_of_other_agents_is_refused() -> None:
    with pytest.raises(ValueError, match="agents and parameters"):
        training([1, 2]).load_state(training([1]).state())


def test_two_processes_give_the_same_bits() -> None:
    program = (
        "from worker.threads import use_one_thread; use_one_thread()\n"
        "from tests.unit.dqn.test_train import fingerprint, training\n"
        "print(fingerprint(training()))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert elsewhere.stdout.strip() == fingerprint(training())


def test_stopping_to_look_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fingerprint(training())
    monkeypatch.setattr("worker.dqn.train._STEPS_PER_PROGRESS", 1)
    assert fingerprint(training()) == plain


def test_progress_comes_often_however_dear_a_round_of_updates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = [event.step for event in training().run() if isinstance(event, Progress)]
    assert len(steps) >= 3
    assert steps == sorted(steps)
    monkeypatch.setattr("worker.dqn.train._FLOPS_PER_PROGRESS", 1.0)
    dear = replace(PARAMS, train_freq=300, gradient_steps=20, batch_size=512)
    running = training(params=dear)
    in_round = [e.step for e in running.run() if isinstance(e, Progress)].count(600)
    assert in_round >= 20


def remembered(env_id: str) -> tuple[torch.Tensor, ...]:
    """All that a single agent stored in order, of 900 steps with random actions.

    Observations before and after [O, B], actions, rewards, ends [B].
    """
    params = replace(PARAMS, learning_starts=900, buffer_size=900)
    running = training([3], params, env_id)
    evaluations(running)
    size = int(running.state()["replay.sizes"][0])
    states, *others = (
        part[0, 0] for part in running._replay.sample(torch.arange(size)[None, None])
    )
    return states[0], states[1], *(each[0] for each in others)


class Counting(gymnasium.Env[Any, Any]):
    """Counts its steps: the fifth one pays NaN, or terminates where the first action was 1."""

    observation_space = gymnasium.spaces.Box(-1.0, 99.0, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, pays_nan: bool = False) -> None:
        self._pays_nan = pays_nan

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self._count, self._first = 0, -1
        return np.array([0, -1], np.float32), {}

    def step(self, action: Any) -> Any:
        if not self._count:
            self._first = int(action)
        self._count += 1
        ends = self._count == 5 and self._first == 1
        reward = np.nan if self._pays_nan and self._count == 5 else 1.0
        return np.array([self._count, self._first], np.float32), reward, ends, False, {}


@pytest.fixture
def counting_envs() -> Any:
    gymnasium.register("Counting-v0", lambda **kw: Counting(**kw), max_episode_steps=8)
    gymnasium.register("Nan-v0", lambda **kw: Counting(pays_nan=True), max_episode_steps=8)
    yield
    del gymnasium.registry["Counting-v0"], gymnasium.registry["Nan-v0"]


@pytest.mark.usefixtures("counting_envs")
def test_the_memory_holds_real_steps_only_and_tells_the_two_ends_apart() -> None:
    """Catches stored autoreset steps, and truncation taken for termination or the reverse."""
    s_tm1, s_t, a_tm1, r_t, terminal_t = remembered("Counting-v0")
    before, after = s_tm1[0], s_t[0]
    assert torch.equal(after, before + 1)  # an autoreset step would lead back to 0
    assert (r_t == 1).all()
    ended_by_itself = (after == 5) & (s_t[1] == 1)
    assert torch.equal(terminal_t, ended_by_itself.float())
    assert ended_by_itself.any()
    assert (after == 8).any()  # truncated, and not terminal
    assert not ((before == 5) & (s_tm1[1] == 1)).any()
    first = before == 0
    assert torch.equal(a_tm1[first].float(), s_t[1, first])


def test_cartpoles_memory_is_one_of_cartpoles_steps() -> None:
    s_tm1, s_t, _, r_t, terminal_t = remembered("CartPole-v1")
    assert (r_t == 1).all()  # an autoreset step pays 0
    torch.testing.assert_close(s_t[0], s_tm1[0] + 0.02 * s_tm1[1])
    fallen = (s_t[0].abs() > 2.4) | (s_t[2].abs() > np.pi / 15)
    assert torch.equal(terminal_t, fallen.float())


@pytest.mark.usefixtures("counting_envs")
@pytest.mark.parametrize(
    ("params", "env_id", "says"),
    [
        (replace(PARAMS, learning_rate=1e30), "CartPole-v1", r"agent 0 \(seed 4\): .* step 300"),
        (PARAMS, "Nan-v0", r"agent 0 \(seed 4\): training loss is not finite at step 300"),
        (
            replace(PARAMS, learning_starts=900),
            "Nan-v0",
            r"agent 0 \(seed 4\): return of a greedy episode is not finite at step 300",
        ),
    ],
    ids=["diverging", "reward in training", "reward in evaluation"],
)
def test_what_is_not_finite_ends_the_training(params: Params, env_id: str, says: str) -> None:
    with pytest.raises(NonFiniteError, match=says):
        evaluations(training([4, 5], params, env_id))


@pytest.mark.parametrize(
    ("learning_starts", "says"), [(50, "training loss"), (900, "network")], ids=["loss", "network"]
)
def test_the_agent_that_diverged_is_named(learning_starts: int, says: str) -> None:
    running = training([4, 5], replace(PARAMS, learning_starts=learning_starts))
    running._agent.online.flat[1, 3] = float("inf")
    with pytest.raises(NonFiniteError, match=rf"agent 1 \(seed 5\): {says} is not finite"):
        evaluations(running)


def test_a_saved_agent_plays_as_it_did_in_the_stack() -> None:
    running = training([1, 2])
    last = evaluations(running)[-1]
    for agent, seed in enumerate((1, 2)):
        alone = load_network({name: array[agent] for name, array in running.networks().items()})
        played = evaluate(alone, "CartPole-v1", [stream(seed, 2, Purpose.SCORE)], 3)
        assert np.array_equal(played.returns, last.returns[agent : agent + 1])
        assert np.array_equal(played.lengths, last.lengths[agent : agent + 1])


def test_only_the_first_episode_of_an_environment_counts() -> None:
    """Catches returns that go on past an end, and an average that favours short episodes."""
    network = load_network({"q.0.weight": np.zeros((2, 4), np.float32), "q.0.bias": np.eye(2)[0]})
    played = evaluate(network, "CartPole-v1", [np.random.SeedSequence(0)], 40)
    assert played.returns.shape == (1, 40)
    assert 8 <= played.returns.min() < played.returns.max() <= 11  # always left: 8 to 10 steps
