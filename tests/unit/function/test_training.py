"""A function of one's own as a trainer: events in order, resumed to the bit, ended in time."""

from __future__ import annotations

import traceback
from collections.abc import Generator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from tests.unit.function import functions
from trialfleet.errors import StudyFileError
from trialfleet.postgres.waiting import wait_until
from trialfleet.training import Result, Run
from worker.trainers.function.models import of_arrays
from worker.trainers.function.trainer import Training
from worker.trainers.protocol import (
    Evaluation,
    Event,
    Job,
    NonFiniteError,
    Progress,
    Score,
    Waiting,
)

SEEDS = [10, 12, 14]


@pytest.fixture(autouse=True)
def _nothing_heard() -> None:
    functions.heard.clear()
    functions.returned.clear()
    functions.go.clear()


def training(function: str, *, seeds: list[int] | None = None, steps: int = 12) -> Training:
    return Training(
        Job(
            env="",
            objective=f"tests.unit.function.functions:{function}",
            knobs={"rate": 0.1},
            seeds=SEEDS if seeds is None else seeds,
            train_steps=steps,
            eval_every=3,
            eval_episodes=1,
            score_episodes=1,
        )
    )


def heard_of(trainer: Training) -> Generator[Event, None, None]:
    """What it yields, without the moments in which it is only waited for."""
    yield from (event for event in trainer.run() if not isinstance(event, Waiting))


def all_of(trainer: Training) -> list[tuple[int, list[float]]]:
    """Every step with its values, and the score."""
    found = []
    for event in heard_of(trainer):
        assert isinstance(event, Evaluation | Score)
        values = event.returns if isinstance(event, Score) else event.metrics["return"]
        found.append((event.step, values.tolist()))
    trainer.close()
    return found


def test_reports_become_evaluations_and_the_end_a_score() -> None:
    trainer = training("walk")
    events = list(heard_of(trainer))
    assert [(type(event), event.step) for event in events] == [
        *((Evaluation, step) for step in (3, 6, 9, 12)),
        (Score, 12),
    ]
    first, last = events[0], events[-1]
    assert isinstance(first, Evaluation)
    assert isinstance(last, Score)
    run = Run(parameters={}, seeds=SEEDS, train_steps=12, eval_every=3)
    expected = [0.1 * (run.segment_seed(seed, 3) % 1000) for seed in SEEDS]
    assert first.metrics["return"].tolist() == first.metrics["moved"].tolist() == expected
    models = trainer.result()
    one = {name: np.ascontiguousarray(array[1]) for name, array in models.items()}
    assert of_arrays(one) == (str(last.returns[1]).encode(), ".json")


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_a_resumed_training_ends_as_one_in_one_go(segments: int) -> None:
    whole = all_of(training("walk"))
    first = training("walk")
    with closing(heard_of(first)) as events:
        for _ in range(segments):
            next(events)
        state = first.state()
    first.close()
    assert state is not None
    second = training("walk")
    second.load_state(state)
    assert all_of(second) == whole[segments:]


def test_a_state_is_loaded_whole_or_not_at_all() -> None:
    good = {
        "step": np.array(6),
        "seeds": np.array(SEEDS),
        "checkpoint": np.frombuffer(b"{}", np.uint8),
    }
    trainer, whole = training("walk"), all_of(training("walk"))
    for bad in (
        *({key: x for key, x in good.items() if key != name} for name in good),
        {**good, "seeds": np.array([1, 2])},
        {**good, "step": np.array(7)},
        {**good, "step": np.array([6, 9])},
        {**good, "step": np.array("six")},
        {**good, "checkpoint": np.zeros((1, 2), np.uint8)},
        {**good, "checkpoint": np.zeros(2)},
    ):
        with pytest.raises((ValueError, LookupError, TypeError)):
            trainer.load_state(bad)
    assert all_of(trainer) == whole


def test_a_segments_seed_has_32_bits_unless_its_trial_is_older() -> None:
    """A trial that was trained with seeds of 63 bits is replayed with what it drew."""
    run = Run(parameters={}, seeds=SEEDS, train_steps=12, eval_every=3)
    drawn = [run.segment_seed(seed, step) for seed in range(100) for step in run.steps]
    assert len(set(drawn)) == len(drawn)
    for seed in drawn:
        np.random.RandomState(seed)
    # Golden: were one to change, no finished trial could be replayed.
    assert run.segment_seed(7, 3) == 3842200183
    assert run.segment_seed(2392243606990735824, 3) == 7744759934389003128


def test_a_seed_is_trained_alike_whoever_is_trained_beside_it() -> None:
    alone = all_of(training("walk", seeds=[12]))
    together = all_of(training("walk"))
    assert [values[0] for _, values in alone] == [values[1] for _, values in together]


def test_without_a_checkpoint_there_is_nothing_to_resume() -> None:
    trainer = training("forgetful", seeds=[1])
    events = heard_of(trainer)
    next(events)
    assert trainer.state() is None
    assert [event.step for event in events] == [6, 9, 12, 12]


def test_a_score_alone_is_one_segment() -> None:
    assert all_of(training("constant", seeds=[1])) == [(12, [7.0]), (12, [7.0])]


def test_a_training_may_be_shorter() -> None:
    assert all_of(training("stopping_early", seeds=[1])) == [(3, [1.0]), (3, [2.0])]


def test_work_that_does_not_report_is_ended_at_once() -> None:
    """`Ended` has to reach a loop that reports nothing, and pass by `except Exception`."""
    trainer = training("looping", seeds=[1])
    events = trainer.run()
    for event in events:
        if isinstance(event, Waiting) and functions.heard == ["loops"]:
            break
    events.close()
    trainer.close()
    assert functions.heard == ["loops", "Ended"]
    assert not trainer._thread.is_alive()


def test_every_report_after_the_end_raises() -> None:
    trainer = training("stubborn", seeds=[1])
    with closing(heard_of(trainer)) as events:
        next(events)
    trainer.close()
    assert functions.heard == ["Ended"] * 4


def test_progress_is_told_and_tells_that_it_is_not_stuck() -> None:
    trainer, steps = training("telling", seeds=[1]), []
    for event in trainer.run():
        if isinstance(event, Progress) and not isinstance(event, Waiting):
            steps.append(event.step)
            functions.heard.append("go")
    assert steps == [3]


RETURNED: list[tuple[Any, type[BaseException], str]] = [
    (1.0, ValueError, "the score: one number; must be a list of 3, one for each of run.seeds"),
    ([1.0, 2.0], ValueError, "the score: numbers of shape (2,); must be a list of 3"),
    ("x", TypeError, "the score: str; must be a list of 3, one for each of run.seeds"),
    (None, TypeError, "the score: None; must be a list of 3, one for each of run.seeds; does the"),
    ([1.0, None, 2.0], TypeError, "the score: None among them; must be a list of 3"),
    ([1.0, 2.0, float("nan")], NonFiniteError, "the score of tests.unit.function"),
    ([1.0, 2.0, float("inf")], NonFiniteError, "is not finite"),
    (Result(scores=[1, 2, 3], models=[b""]), ValueError, "has 1 models; must be one for each"),
    (Result(scores=[1, 2, 3], models=["", "", ""]), TypeError, "models must be bytes"),  # type: ignore[list-item]
    (Result(scores=[1, 2, 3], suffix="/../x"), ValueError, "the result's suffix is '/../x'"),
]


@pytest.mark.parametrize(("value", "kind", "says"), RETURNED)
def test_what_is_no_result_fails_the_trial(
    value: Any, kind: type[BaseException], says: str
) -> None:
    functions.returned.append(value)
    with pytest.raises(kind) as raised:
        all_of(training("returning"))
    assert says in str(raised.value)


REPORTED: list[tuple[tuple[Any, ...], dict[str, Any], type[BaseException], str]] = [
    ((4, [1.0] * 3), {}, ValueError, "a report at step 4, but the next is due at 3: one after"),
    ((6, [1.0] * 3), {}, ValueError, "the next is due at 3"),
    ((3, 1.0), {}, ValueError, "values: one number; must be a list of 3"),
    ((3, [1.0, 2.0, float("nan")]), {}, NonFiniteError, "is not finite at step 3"),
    ((3, [1.0] * 3), {"metrics": {"return": [1.0] * 3}}, ValueError, "metric 'return'; must be"),
    ((3, [1.0] * 3), {"metrics": {"a b": [1.0] * 3}}, ValueError, "metric 'a b'; must be small"),
    ((3, [1.0] * 3), {"metrics": {"loss": [1.0]}}, ValueError, "loss: numbers of shape (1,)"),
]


@pytest.mark.parametrize(("arguments", "options", "kind", "says"), REPORTED)
def test_what_is_no_report_fails_the_trial(
    arguments: tuple[Any, ...], options: dict[str, Any], kind: type[BaseException], says: str
) -> None:
    functions.returned.extend([arguments, options])
    with pytest.raises(kind) as raised:
        all_of(training("reporting"))
    assert says in str(raised.value)


def test_a_function_of_one_seed_that_returns_nothing_is_told_so() -> None:
    functions.returned.append(None)
    with pytest.raises(TypeError, match="the score: None; must be a number; does the function"):
        all_of(training("returning", seeds=[1]))


def test_a_checkpoint_is_bytes() -> None:
    functions.returned.extend([(3, [1.0] * 3), {"checkpoint": {"a": 1}}])
    trainer = training("reporting")
    with closing(heard_of(trainer)) as events:
        next(events)
        with pytest.raises(TypeError, match="a checkpoint is bytes, not dict"):
            trainer.state()
    trainer.close()


def test_a_mistake_is_told_with_its_own_line() -> None:
    with pytest.raises(RuntimeError, match="no such thing for 3 seeds") as raised:
        all_of(training("failing"))
    assert traceback.extract_tb(raised.value.__traceback__)[-1].name == "_deep"


def test_an_end_of_the_program_is_one_of_the_trial() -> None:
    with pytest.raises(SystemExit, match="bye"):
        all_of(training("leaving"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("tests.unit.function.functions:no", "no is not there"),
        ("tests.unit.function.functions:not_callable", "must be a function"),
    ],
)
def test_a_function_that_is_not_there_is_told(name: str, says: str) -> None:
    job = training("walk")._job
    with pytest.raises(StudyFileError, match=r"task\.objective: ") as refused:
        Training(Job(**{**vars(job), "objective": name}))
    assert says in str(refused.value)


def test_a_function_can_be_tried_without_a_study(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(parameters={"rate": 1.0}, seeds=[1, 2], train_steps=4, eval_every=2)
    result = functions.walk(run)
    assert len(list(result.models)) == 2
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "step 2",
        "step 4",
    ]


def test_a_report_that_nobody_hears_any_more_ends_the_function() -> None:
    """It is made between the worker's last look and its decision to end the trial."""
    trainer = training("reporting_late", seeds=[10])
    events = trainer.run()
    assert isinstance(next(events), Waiting)
    functions.go.set()
    assert wait_until(lambda: trainer._heard.qsize() == 1, 10.0, pause=0.01)
    events.close()
    trainer.close()
    assert not trainer._thread.is_alive()
    assert functions.heard == ["Ended"]
    # The next one need not wait for it.
    assert [type(event) for event in training("constant", seeds=[10]).run()] == [Evaluation, Score]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_function_that_reports_from_another_thread_hears_the_end_too() -> None:
    trainer = training("reporting_from_a_thread", seeds=[10])
    with closing(heard_of(trainer)) as events:
        assert next(events).step == 3
    trainer.close()
    assert not trainer._thread.is_alive()
    assert functions.heard == ["Ended"]
