"""Studies that search for something else than the mean score, from the file to the winner."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState
from rich.console import Console

from coordinator.dashboard.notes import study_note
from coordinator.judged import told
from coordinator.status import snapshot
from tests.support.inprocess import run_here
from tests.support.studies import create, finish, take_all
from tests.unit.test_display import drawn
from trialfleet.cli.replay import replay_trial
from trialfleet.cli.show.display import summary
from trialfleet.cli.show.outcome import result_report
from trialfleet.store import metrics
from trialfleet.store.storage import Database
from trialfleet.study.values import NEVER, combined, steps_to

Open = Callable[[], Database]


def test_a_study_of_steps_to_a_return(open_database: Open) -> None:
    database = open_database()
    created = create(
        database,
        trials=4,
        train_steps=48,
        objectives='["steps_to_10"]',
        over_seeds="worst",
        top=2,
        final_seeds=4,
    )
    study = run_here(open_database)
    search = database.optuna_study("trivial")
    assert search.directions == [StudyDirection.MINIMIZE]
    assert search.metric_names == ["steps_to_10"]
    trials = search.get_trials()
    curves = metrics.read(database, study.search_id, "return")
    for trial in trials:
        steps = []
        for agent in range(2):
            curve = {step: returns[agent] for step, returns in curves[trial.number]}
            steps.append(float(steps_to(10.0, curve) or NEVER * 48))
        assert trial.user_attrs["measures"] == {"steps_to_10": steps}
        assert trial.values == [max(steps)]
    assert study.result is not None
    rows = study.result["finalists"]
    assert [row["search_values"] for row in rows] == sorted(trial.values for trial in trials)[:2]
    # Four fresh agents of two trials are judged together.
    final = database.optuna_study("trivial.final").get_trials()
    for row in rows:
        own = [trial for trial in final if trial.user_attrs["finalist"] == row["rank"]]
        assert row["values"] == [max(trial.values[0] for trial in own)]
    winner = min(rows, key=lambda row: (row["values"], -row["area"]))
    assert study.result["winner"] == winner["rank"]
    # What people see names it.
    assert told(study.result, winner).startswith(f"steps_to_10 {winner['values'][0]:.1f}")
    assert "steps_to_10" in drawn(result_report(study), width=200)
    assert "steps_to_10, fresh" in study_note(study, artifacts={})
    assert f"winner: trial {winner['trial']}, steps_to_10 {winner['values'][0]:.1f}" in summary(
        snapshot(database, study)
    )
    for number, final_stage in ((0, False), (1, True)):
        assert replay_trial(
            database,
            created.name,
            number,
            final=final_stage,
            device=None,
            console=Console(quiet=True),
        )


@pytest.mark.parametrize("over_seeds", ["mean", "worst"])
def test_pruners_judge_the_returns_as_they_become_the_trials_value(
    open_database: Open, over_seeds: str
) -> None:
    database = open_database()
    create(
        database,
        trials=3,
        train_steps=32,
        pruner='{ name = "median", n_startup_trials = 1 }',
        objectives='["auc"]',
        over_seeds=over_seeds,
    )
    study = run_here(open_database)
    curves = metrics.read(database, study.search_id, "return")
    trials = database.optuna_study("trivial").get_trials()
    for trial in trials:
        reported = {
            step: combined(returns, over_seeds, maximize=True)
            for step, returns in curves[trial.number]
        }
        assert trial.intermediate_values == reported
        areas = trial.user_attrs["measures"]["auc"]
        assert trial.values == [combined(areas, over_seeds, maximize=True)]
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert study.stage == "done"


def test_of_a_minimized_objective_the_lowest_is_the_best(database: Database) -> None:
    study = create(database, trials=3, objectives='["parameters"]')
    for claim, value in zip(take_all(database), (30.0, 10.0, 20.0), strict=True):
        finish(database, claim, value=value)
    shot = snapshot(database, study)
    assert shot.best == (1, 10.0)
    assert shot.best_told == "best parameters 10.0 (trial 1)"


def test_trials_without_a_number_for_it_fail_with_the_reason(open_database: Open) -> None:
    database = open_database()
    create(database, trials=2, max_failures=0, objectives='["metric.reward:max"]')
    with pytest.raises(Exception, match="the trainer has no metric 'reward' at step 16; it has"):
        run_here(open_database)
