"""The workers of one process, each a lane, on a real study."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch

from coordinator.create import create_or_join
from coordinator.watch import watch
from tests.integration.test_own_training import STUDY
from tests.support.inprocess import SETTINGS
from tests.support.invariants import check_invariants
from tests.support.studies import at_once, create, states
from trialfleet.errors import DatabaseUnavailableError, UsageError
from trialfleet.postgres.waiting import wait_until
from trialfleet.search import space
from trialfleet.settings import Settings
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.study.file import parse
from worker.attempt import Attempt, Outcome
from worker.configuration import make_job
from worker.lanes import Lanes
from worker.loop import Worker
from worker.stop import Stop, StopRequested
from worker.trainers.dqn import trainer
from worker.trainers.dqn.gpu.program import Program
from worker.trainers.dqn.gpu.requests import Segment
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import Evaluation, Score
from worker.trainers.threads import use_one_thread

Open = Callable[[], Database]


def lanes(open_database: Open, count: int, study: str = "trivial") -> Lanes:
    found = Lanes(Stop())
    settings = Settings(poll_seconds=0.05, lanes=count)
    for _ in range(count):
        found.workers.append(Worker(open_database(), study, settings=settings, stop=found.stop))
    return found


def test_what_ends_one_lane_ends_them_all(
    open_database: Open, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = create(database, train_steps=1_000_000, eval_every=1_000_000)
    three = lanes(open_database, 3)
    failing, *others = three.workers

    def unavailable() -> None:
        assert wait_until(lambda: all(each._heartbeat.claim for each in others), 60.0)
        raise DatabaseUnavailableError("it is away")

    monkeypatch.setattr(failing, "_claim", unavailable)
    with pytest.raises(DatabaseUnavailableError, match="it is away"):
        three.run()
    assert [state for _, state in states(database, study.search_id)] == ["WAITING"] * 2


def test_a_study_trained_by_one_program(
    open_database: Open, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: lanes are filled again as trials are pruned, and each trial is its own."""
    create(
        database,
        trials=12,
        train_steps=160,
        pruner='{ name = "median", n_startup_trials = 3, n_warmup_steps = 16 }',
    )
    together = []
    train = Program._train

    def counted(self: Program, segments: list[Segment]) -> Iterator[int]:
        together.append(len(segments))
        return train(self, segments)

    monkeypatch.setattr(Program, "_train", counted)
    monkeypatch.setattr(trainer, "make_trainer", partial(Training, tensors=True))
    four = lanes(open_database, 4)
    paused = threading.Event()
    at_once(four.run, lambda: watch(database, "trivial", settings=SETTINGS, pause=paused.wait))
    check_invariants(database, "trivial")
    assert max(together) == 4
    study = studies.find(database, "trivial")
    trials = database.optuna_study("trivial").get_trials()
    assert {trial.state.name for trial in trials} == {"COMPLETE", "PRUNED"}
    for trial in trials:
        job = make_job(
            study,
            space.decode(trial.params, study.spec.agent),
            trial.user_attrs["seeds"],
            final=False,
            device="cpu",
            compiled=False,
        )
        for event in Training(job, tensors=True).run():
            if isinstance(event, Evaluation):
                if event.step not in trial.intermediate_values:
                    assert trial.state.name == "PRUNED"
                    break
                assert trial.intermediate_values[event.step] == event.metrics["return"].mean()
            elif isinstance(event, Score):
                assert trial.user_attrs["scores"] == event.returns.tolist()


def test_a_stop_is_told_as_one(open_database: Open, database: Database) -> None:
    create(database)
    three = lanes(open_database, 3)
    three.stop.ask()
    with pytest.raises(StopRequested):
        three.run()


def test_every_lane_computes_in_one_thread(
    open_database: Open, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(database)
    use_one_thread()
    two, found = lanes(open_database, 2), []
    run = Attempt.run

    def noted(self: Attempt) -> Outcome:
        found.append(torch.get_num_threads())
        two.stop.ask()
        return run(self)

    monkeypatch.setattr(Attempt, "run", noted)
    with pytest.raises(StopRequested):
        two.run()
    assert set(found) == {1}


def test_a_function_of_the_users_needs_a_process_for_itself(
    open_database: Open, database: Database
) -> None:
    study = create_or_join(database, parse(STUDY, source="own.toml"))
    with pytest.raises(UsageError, match="start its workers without --lanes"):
        lanes(open_database, 2, study.name).run()
    assert {state for _, state in states(database, study.search_id)} == {"WAITING"}
