"""What a trial has measured is the same whether it was interrupted or not."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.studies import create, send_metrics, take, trivial_spec
from trialfleet.store.storage import Database
from trialfleet.study.spec import Spec
from worker.measuring import Measuring, NotMeasuredError, Taken, resumed
from worker.trainers.protocol import Evaluation, Event

SCORES = np.array([3.0, 5.0])
STEPS = (16, 32, 48)
EVERYTHING = (
    '["score", "auc", "steps_to_9", "metric.loss:min", "parameters", "spread",'
    ' "training_seconds", "seconds_per_action"]'
)


class Trained:
    """A trainer that is done: networks of 4 observations, 8 hidden units and 2 actions."""

    portable = False

    def run(self) -> Generator[Event, None, None]:
        yield from ()

    def state(self) -> dict[str, NDArray[Any]]:
        return {}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        assert not state

    def result(self) -> dict[str, NDArray[Any]]:
        shapes = {"q.0.weight": (8, 4), "q.0.bias": (8,), "q.1.weight": (2, 8), "q.1.bias": (2,)}
        return {name: np.zeros((2, *shape), np.float32) for name, shape in shapes.items()}

    def close(self) -> None:
        return


def evaluation(step: int) -> Evaluation:
    metrics = {
        "return": np.array([step / 4.0, step / 6.0]),
        "loss": np.array([1.0 / step, 2.0 / step]),
        "steps_per_second": np.full(2, 64.0),
    }
    return Evaluation(step=step, metrics=metrics)


def spec(objectives: str) -> Spec:
    return trivial_spec(train_steps=48, objectives=objectives)


def in_one_go(spec: Spec) -> Taken:
    measuring = Measuring(spec)
    for step in STEPS:
        measuring.add(evaluation(step))
    return measuring.take(Trained(), SCORES, 48)


def test_every_measure_comes_to_what_it_says() -> None:
    found = in_one_go(spec(EVERYTHING))
    told = dict(found.attributes["measures"])
    assert 0.0 < told.pop("seconds_per_action") < 0.1
    assert told == {
        "auc": [6.0, 4.0],
        "steps_to_9": [48.0, 96.0],  # twice the training for the one that never got there
        "metric.loss": [1 / 48, 2 / 48],
        "parameters": 4 * 8 + 8 + 8 * 2 + 2,
        "training_seconds": 3 * 2 * 16 / 64,
    }
    assert found.values[:7] == [4.0, 5.0, 72.0, 1.5 / 48, 58.0, 2.0**0.5, 1.5]


@pytest.mark.parametrize("at", [0, 16, 32])
def test_what_earlier_attempts_measured_counts_up_to_the_checkpoint(
    database: Database, at: int
) -> None:
    study = create(database, train_steps=48, objectives='["auc", "steps_to_9", "parameters"]')
    claim = take(database)
    # The attempt before came to step 32, and its checkpoint is of step `at`.
    for step in STEPS[:2]:
        named = {name: values.tolist() for name, values in evaluation(step).metrics.items()}
        send_metrics(
            database, claim, step, {**named, "return": [99.0, 99.0]} if step > at else named
        )
    measuring = resumed(database, claim.trial_id, study.spec, at)
    for step in STEPS:
        if step > at:
            measuring.add(evaluation(step))
    assert measuring.take(Trained(), SCORES, 48) == in_one_go(study.spec)


def test_what_is_no_number_fails_the_trial() -> None:
    measuring = Measuring(spec('["metric.loss:min"]'))
    metrics = {"return": np.array([1.0, 1.0]), "loss": np.array([1.0, np.nan])}
    measuring.add(Evaluation(step=16, metrics=metrics))
    with pytest.raises(NotMeasuredError, match=r"metric\.loss is not finite: \[1\.0, nan\]"):
        measuring.take(Trained(), SCORES, 16)
