"""Trials beside each other in one program: each ends as it would have alone, to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import zip_longest
from typing import Literal

import pytest
import torch

from tests.support import card
from tests.unit.dqn.settings import PARAMS
from tests.unit.dqn.short import ends, fingerprint, numbers, training
from worker.trainers.dqn.gpu import backend, cuda_graphs, scheduler
from worker.trainers.dqn.gpu.program import Program
from worker.trainers.dqn.gpu.requests import Segment
from worker.trainers.dqn.params import Params
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import Evaluation, Score

# Everything that trials may differ in.
OTHERS = [
    PARAMS,
    replace(PARAMS, learning_rate=3e-4, gamma=0.9, tau=0.5, target_update_interval=7),
    replace(PARAMS, learning_starts=120, exploration_fraction=0.9, exploration_final_eps=0.3),
]


@pytest.fixture(autouse=True)
def _no_program_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(backend, "_programs", [])
    yield
    assert backend._programs == []


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many trials took part in each segment that was trained."""
    counts: list[int] = []
    train = Program._train

    def counted(self: Program, segments: list[Segment]) -> Iterator[int]:
        counts.append(len(segments))
        return train(self, segments)

    monkeypatch.setattr(Program, "_train", counted)
    return counts


def lane(
    params: Params = PARAMS, seeds: Sequence[int] = (1, 2), *, lanes: int = 3, device: str = "cpu"
) -> Training:
    """One of so many trials, at most."""
    return training(seeds, params, tensors=True, lanes=lanes, device=device)


def alone(params: Params = PARAMS, seeds: Sequence[int] = (1, 2), *, lanes: int = 1) -> str:
    return finish(training(seeds, params, tensors=True, lanes=lanes))


def finish(running: Training) -> str:
    try:
        return fingerprint(running)
    finally:
        running.close()


def at_once(*work: Callable[[], str]) -> list[str]:
    """What each came to, in a thread of its own."""
    with ThreadPoolExecutor(len(work)) as pool:
        return [future.result(60) for future in [pool.submit(each) for each in work]]


def test_each_trial_ends_as_it_would_have_alone(together: list[int]) -> None:
    wanted = [alone(params, (2 * i, 2 * i + 1)) for i, params in enumerate(OTHERS)]
    together.clear()
    lanes = [lane(params, (2 * i, 2 * i + 1)) for i, params in enumerate(OTHERS)]
    assert at_once(*(lambda each=each: finish(each) for each in lanes)) == wanted
    assert together == [3, 3, 3]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("double_q", [True, False])
def test_whatever_they_have_in_common(precision: Literal["fp32", "bf16"], double_q: bool) -> None:
    """A product in bf16 may round otherwise in a larger stack, but not with others in it."""
    common = [
        replace(each, precision=precision, double_q=double_q, loss="mse") for each in OTHERS[:2]
    ]
    wanted = [alone(params, lanes=3) for params in common]
    lanes = [lane(params) for params in common]
    assert at_once(*(lambda each=each: finish(each) for each in lanes)) == wanted


def test_a_trial_that_is_alone_in_its_program_is_not_kept_waiting(together: list[int]) -> None:
    assert finish(lane()) == alone()
    assert together == [1] * 6


def test_a_lane_is_filled_again_while_the_others_go_on(together: list[int]) -> None:
    """The other lane's trial is a segment ahead of the one that comes in."""
    wanted = [alone(OTHERS[0], (7, 8)), alone(OTHERS[2], (5, 6))]
    together.clear()
    first, long = lane(OTHERS[1]), lane(OTHERS[2], (5, 6))

    def one_and_the_next() -> str:
        events = first.run()
        next(event for event in events if isinstance(event, Evaluation))  # and is pruned there
        events.close()
        first.close()
        return finish(lane(OTHERS[0], (7, 8)))

    assert at_once(one_and_the_next, lambda: finish(long)) == wanted
    assert together[0] == 2
    assert 2 in together[1:]


def test_a_trial_that_leaves_within_a_segment_disturbs_nobody() -> None:
    """Also where its thread was the one that computed, and another trial takes its lane at once."""
    wanted = [alone(OTHERS[2], (5, 6)), alone(OTHERS[0], (7, 8))]
    leaving, staying = lane(OTHERS[1], lanes=2), lane(OTHERS[2], (5, 6), lanes=2)

    def leave_and_come_back() -> str:
        steps = leaving._stepping.train(0)
        while next(steps) < 100:
            pass
        steps.close()
        leaving.close()
        return finish(lane(OTHERS[0], (7, 8), lanes=2))

    assert at_once(lambda: finish(staying), leave_and_come_back) == wanted


def test_what_is_recorded_is_of_the_trials_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, where a trial follows another one in its lane; all of it in this thread."""
    wanted = []
    for params, seeds in ((OTHERS[2], (5, 6)), (OTHERS[0], (7, 8))):
        straight = lane(params, seeds)
        list(straight.run())
        wanted.append(finish(straight))  # what comes out once it is done
    monkeypatch.setattr(scheduler, "_PAUSE", 0.0)  # nobody else is there to be waited for
    with card.inserted() as device:
        monkeypatch.setitem(cuda_graphs.RECORDERS, card.NAME, lambda: device.record)
        first = lane(OTHERS[1], lanes=2, device=card.NAME)
        staying = lane(OTHERS[2], (5, 6), lanes=2, device=card.NAME)
        others, events = staying.run(), first.run()
        ended: set[type] = set()
        while Evaluation not in ended:
            ended.add(type(next(events)))
            next(others)
        events.close()
        first.close()
        following = lane(OTHERS[0], (7, 8), lanes=2, device=card.NAME)
        for _ in zip_longest(others, following.run()):
            pass
        assert [finish(each) for each in (staying, following)] == wanted


def test_what_fails_fails_for_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Iterator[int]:
        yield 1
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(Program, "_train", broken)
    lanes = [lane(), lane(OTHERS[1])]

    def failing(running: Training) -> str:
        try:
            with pytest.raises(torch.OutOfMemoryError):
                fingerprint(running)
        finally:
            running.close()
        return "failed"

    assert at_once(*(lambda each=each: failing(each) for each in lanes)) == ["failed"] * 2


def test_a_checkpoint_of_one_lane_is_gone_on_with_in_another() -> None:
    straight, first, other = lane(OTHERS[1]), lane(OTHERS[2]), lane()
    events = straight.run()
    first.close()
    other.close()
    next(event for event in events if isinstance(event, Evaluation))
    state = straight.state()
    assert state is not None
    resumed = lane(OTHERS[1])
    resumed.load_state(state)
    rest = [[numbers(each) for each in events if isinstance(each, Evaluation | Score)]]
    straight.close()
    rest.append([numbers(each) for each in ends(resumed)])
    resumed.close()
    assert rest[0] == rest[1]


def test_other_shapes_have_programs_of_their_own() -> None:
    lanes = [lane(), lane(replace(PARAMS, net_arch=(8,))), training(seeds=(1,), tensors=True)]
    assert len(backend._programs) == 3
    for each in lanes:
        each.close()


def test_more_trials_than_lanes_make_another_program() -> None:
    lanes = [lane() for _ in range(4)]
    assert len(backend._programs) == 2
    for each in lanes:
        each.close()
