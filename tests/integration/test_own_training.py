"""A study of one's own training, from claim to winner, by workers that are stopped in between."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from rich.console import Console

from coordinator.create import create_or_join
from coordinator.final import begin_final
from coordinator.result import conclude
from tests.support.studies import outcomes
from trialfleet.cli.agent.save import save_model
from trialfleet.cli.replay import replay_trial
from trialfleet.settings import Settings
from trialfleet.store import studies
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec
from worker.loop import Worker
from worker.stop import Stop, StopRequested

STUDY = """
name = "own"
[task]
objective = "tests.integration.own_training:train"
seeds = 2
train_steps = 6
eval_every = 2
[parameters]
rate = { low = 0.5, high = 2.0 }
[search]
trials = 2
sampler = "random"
pruner = "none"
[final]
top = 1
race = false
seeds = 3
"""


def test_it_goes_on_where_it_was_and_its_model_is_the_users_file(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_or_join(database, parse(STUDY, source="own.toml"))
    stop = Stop()
    interrupted: list[int] = []

    def interrupt(step: int) -> None:
        """At the second report of the first attempt."""
        if step == 4 and not interrupted:
            interrupted.append(step)
            stop._asked = True

    monkeypatch.setattr("tests.integration.own_training.after_report", interrupt)
    settings = Settings(poll_seconds=0.05, checkpoint_every=0)
    with pytest.raises(StopRequested):
        Worker(database, "own", settings=settings, stop=stop).run()
    study = studies.find(database, "own")
    assert interrupted == [4]

    # The trial that was given back, the other one, and the final stage.
    ended = _run_until_idle(database, settings)
    begin_final(database, study)
    ended += _run_until_idle(database, settings)
    assert outcomes(database, ended[0]) == ["released", "finished"]
    study = studies.find(database, "own")
    result = conclude(database, study)
    assert result is not None
    quiet = Console(quiet=True)
    assert replay_trial(database, "own", 0, final=False, device=None, console=quiet)
    assert replay_trial(database, "own", 1, final=True, device=None, console=quiet)

    save_model(database, replace(study, result=result), tmp_path)
    best = json.loads((tmp_path / "own.walk").read_text())
    assert best == result["model"]["score"]


def test_functions_are_handed_seeds_that_every_library_takes(database: Database) -> None:
    """At most 32 bits, in the search and on fresh seeds."""
    study = create_or_join(database, parse(STUDY, source="own.toml"))
    settings = Settings(poll_seconds=0.05)
    _run_until_idle(database, settings)
    begin_final(database, study)
    _run_until_idle(database, settings)
    study = studies.find(database, "own")
    assert study.final_id is not None
    seeds = [
        seed
        for study_id in (study.search_id, study.final_id)
        for trial in database.trials(study_id)
        for seed in trial.user_attrs["seeds"]
    ]
    assert len(seeds) == len(set(seeds)) == 2 * 2 + 3
    assert max(seeds) < 2**32


def test_trials_with_seeds_of_63_bits_are_replayed_and_not_gone_on_with(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier version handed those: a result of both kinds would be neither's."""
    create_or_join(database, parse(STUDY, source="own.toml"))
    settings, stop = Settings(poll_seconds=0.05, checkpoint_every=0), Stop()
    reports: list[int] = []

    def interrupt(step: int) -> None:
        """At the second report of the second trial."""
        reports.append(step)
        stop._asked = reports == [2, 4, 6, 2, 4]

    monkeypatch.setattr("tests.integration.own_training.after_report", interrupt)
    with monkeypatch.context() as earlier:
        earlier.setattr(Spec, "handed", lambda _, seeds: list(seeds))
        with pytest.raises(StopRequested):
            Worker(database, "own", settings=settings, stop=stop).run()
    _run_until_idle(database, settings)
    assert reports == [2, 4, 6, 2, 4, 2, 4, 6], "the second one starts over"
    study = studies.find(database, "own")
    older, newer = (trial.user_attrs["seeds"] for trial in database.trials(study.search_id))
    assert min(older) >= 2**32 > max(newer)
    quiet = Console(quiet=True)
    for number in (0, 1):
        assert replay_trial(database, "own", number, final=False, device=None, console=quiet)


def test_a_score_outside_of_the_declared_returns_fails_the_trial_with_the_reason(
    database: Database,
) -> None:
    text = STUDY.replace("seeds = 2\n", "seeds = 2\nreturns = { low = 0, high = 0.5 }\n", 1)
    few = text.replace("trials = 2", "trials = 2\nmax_failures = 1")
    study = create_or_join(database, parse(few, source="own.toml"))
    _run_until_idle(database, Settings(poll_seconds=0.05))
    trials = database.trials(study.search_id)
    assert {trial.state.name for trial in trials} == {"FAIL"}
    reason = trials[0].user_attrs["reason"]
    assert reason.startswith("OutsideReturnsError: seed ")
    assert "at step 2, outside of task.returns (0 to 0.5); declare bounds that hold" in reason


class NoSuchRow(psycopg2.errors.ForeignKeyViolation):
    """As a server has raised it."""

    pgcode = "23503"


@pytest.mark.parametrize("error", [psycopg2.OperationalError("theirs"), NoSuchRow("theirs")])
def test_an_error_of_a_database_that_a_function_uses_is_the_trials(
    database: Database, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It says nothing of our database, nor of the lease."""

    def fail(_step: int) -> None:
        raise error

    few = STUDY.replace("trials = 2", "trials = 2\nmax_failures = 1")
    study = create_or_join(database, parse(few, source="own.toml"))
    monkeypatch.setattr("tests.integration.own_training.after_report", fail)
    _run_until_idle(database, Settings(poll_seconds=0.05))
    trials = database.trials(study.search_id)
    assert [trial.state.name for trial in trials] == ["FAIL", "FAIL"]
    assert trials[0].user_attrs["reason"].startswith(f"{type(error).__name__}: theirs")


def _run_until_idle(database: Database, settings: Settings) -> list[Claim]:
    """Have a worker train what there is; its claims."""
    claims: list[Claim] = []
    work = Worker._work

    def noted(self: Worker, claim: Claim, *, asked: float) -> None:
        claims.append(claim)
        work(self, claim, asked=asked)

    def idle(self: Worker) -> None:
        raise StopRequested

    worker = Worker(database, "own", settings=settings, stop=Stop())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "_work", noted)
        patch.setattr(Worker, "_make_room", idle)
        with pytest.raises(StopRequested):
            worker.run()
    return claims
