"""Constraints from the study file to the winner, as we, Optuna and its dashboard see them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import optuna
import pytest
from optuna.samplers._tpe.sampler import _get_infeasible_trial_score
from optuna.trial import TrialState
from optuna_dashboard._serializer import serialize_frozen_trial
from rich.console import Console

from coordinator.dashboard.notes import study_note
from coordinator.judged import infeasible
from coordinator.result import conclude
from coordinator.status import as_dict, snapshot
from coordinator.watch import step
from tests.integration.test_final import begun, play
from tests.support.inprocess import run_here
from tests.support.studies import create, finish, take, take_all
from tests.unit.test_display import drawn
from trialfleet.cli.replay import replay_trial
from trialfleet.cli.show.outcome import result_report
from trialfleet.search import space
from trialfleet.search.samplers import make_sampler
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.study.constraints import Constraint

Open = Callable[[], Database]

SMALL = """
[[constraints]]
measure = "parameters"
at_most = 58

[[constraints]]
measure = "spread"
at_most = {}
"""


def stock(database: Database, name: str) -> list[optuna.trial.FrozenTrial]:
    """The trials as Optuna's own storage reads them."""
    url = database.url.render_as_string(hide_password=False)
    storage = optuna.storages.RDBStorage(url, skip_table_creation=True)
    try:
        return optuna.load_study(study_name=name, storage=storage).get_trials()
    finally:
        storage.remove_session()
        storage.engine.dispose()


def test_both_readers_find_the_constraints_and_the_winner_meets_them(open_database: Open) -> None:
    database = open_database()
    create(database, trials=6, top=2, final_seeds=2, more=SMALL.format(0.5))
    study = run_here(open_database)
    trials = stock(database, "trivial")
    for trial in trials:
        told = trial.user_attrs["constraints"]
        assert list(told) == ["parameters <= 58", "spread <= 0.5"]
        expected = [told["parameters <= 58"] / 58 - 1, told["spread <= 0.5"] / 0.5 - 1]
        assert list(trial.constraints.values()) == pytest.approx(expected, abs=1e-12)
        assert told["parameters <= 58"] == 58.0
        # The dashboard takes the list as it is.
        shown = serialize_frozen_trial(study.search_id, trial, {})
        assert shown["constraints"] == list(trial.constraints.values())
    feasible = [trial.number for trial in trials if max(trial.constraints.values()) <= 0]
    assert 0 < len(feasible) < 6, "of this seed, some are and some are not"
    assert study.result is not None
    assert {row["trial"] for row in study.result["finalists"]} <= set(feasible)
    best = max(feasible, key=lambda number: (trials[number].values[0], -number))
    assert snapshot(database, study).best == (best, trials[best].values[0])
    for row in study.result["finalists"]:
        assert row["constraints"]["parameters <= 58"] == 58.0
    assert all("constraints" in each.user_attrs for each in stock(database, "trivial.final"))
    assert "spread <= 0.5" in drawn(result_report(study), width=200)
    assert "spread <= 0.5" in study_note(study, artifacts={})


def by_hand(
    database: Database, claim: Claim, value: float, found: Mapping[str, float | None], **more: Any
) -> None:
    """End a trial that came to this, of one constraint, as a worker writes it."""
    excess = [0.0 if each is None else each / 5_000 - 1 for each in found.values()]
    finish(
        database,
        claim,
        value=value,
        attributes={"constraints": dict(found), "scores": [value, value]},
        system_attributes={"constraints": excess},
        **more,
    )


BOUND = '[[constraints]]\nmeasure = "parameters"\nat_most = 5_000\n'
LABEL = "parameters <= 5000"


def test_the_best_is_feasible_whatever_others_scored(database: Database) -> None:
    study = create(database, trials=4, more=BOUND)
    one, two, three, four = take_all(database)
    by_hand(database, one, 500.0, {LABEL: 6_000.0})
    shot = snapshot(database, study)
    assert shot.best is None
    assert shot.closest == (0, {LABEL: 6_000.0})
    assert shot.best_told == (
        "no trial meets the constraints yet, trial 0 is closest: parameters <= 5000 came to 6,000.0"
    )
    assert as_dict(shot)["closest"] == {"trial": 0, "constraints": {LABEL: 6_000.0}}
    by_hand(database, two, 300.0, {LABEL: 5_000.0})
    by_hand(database, three, 200.0, {LABEL: 10.0})
    by_hand(database, four, 900.0, {LABEL: None}, state="PRUNED")
    shot = snapshot(database, study)
    assert (shot.best, shot.closest) == ((1, 300.0), None)


def test_the_largest_violations_have_a_closest_trial(database: Database) -> None:
    bound = '[[constraints]]\nmeasure = "{}"\nat_most = 0.001\n'
    study = create(database, trials=2, more=bound.format("parameters") + bound.format("spread"))
    labels = [each.label for each in study.spec.constraints]
    for claim, found in zip(take_all(database), (1.7e308, 1e300), strict=True):
        excess = [each.excess(found) for each in study.spec.constraints]
        assert max(excess) <= sys.float_info.max, "which JSON can say"
        finish(
            database,
            claim,
            value=1.0,
            attributes={"constraints": dict.fromkeys(labels, found), "scores": [1.0, 1.0]},
            system_attributes={"constraints": excess},
        )
    closest = snapshot(database, study).closest
    assert closest is not None
    assert closest[0] == 1
    assert step(database, study.name).stage == "failed"


def test_a_search_without_a_feasible_trial_ends_with_the_closest(database: Database) -> None:
    study = create(database, trials=3, more=BOUND)
    for claim, size in zip(take_all(database), (9_000.0, 5_500.0, 7_000.0), strict=True):
        by_hand(database, claim, size, {LABEL: size})
    ended = step(database, study.name)
    assert ended.stage == "failed"
    assert ended.reason == (
        "none of 3 completed trials meets the constraints; trial 1 came closest: "
        "parameters <= 5000 came to 5,500.0"
    )


def of_two(
    database: Database, bound: str, searched: list[float], fresh: list[float]
) -> tuple[Study, dict[str, Any]]:
    """A study of two finalists whose score is bounded, and its result."""
    more = f'[[constraints]]\nmeasure = "score"\n{bound}\n'
    study = begun(database, searched, top=2, seeds=2, final_seeds=2, more=more)
    play(database, study, lambda rank, agents: [fresh[rank]] * agents)
    result = conclude(database, study)
    assert result is not None
    return study, result


def test_finalists_that_fail_the_constraints_on_fresh_seeds(database: Database) -> None:
    study, result = of_two(database, "at_least = 8", [9.0, 8.0], [4.0, 6.0])
    assert (result["winner"], result["feasible"]) == (1, False)
    assert [row["excess"] for row in result["finalists"]] == [0.5, 0.25]
    assert infeasible(study.spec, result) == (
        "no finalist meets the constraints on fresh seeds; the winner came closest: "
        "score >= 8 came to 6.0"
    )


def test_a_feasible_finalist_wins_over_a_better_one(database: Database) -> None:
    study, result = of_two(database, "at_most = 8", [7.0, 6.0], [9.0, 2.0])
    assert (result["winner"], result["feasible"]) == (1, True)
    assert infeasible(study.spec, result) == ""


def test_tpe_learns_from_them(open_database: Open) -> None:
    """Two studies with the same trials; in one of them those that scored best are infeasible."""
    suggested = {}
    for name, more in (("free", ""), ("bound", BOUND)):
        database = open_database()
        sampler = '{ name = "tpe", n_startup_trials = 2 }'
        study = create(database, name=name, trials=9, sampler=sampler, more=more)
        for number in range(8):
            claim = take(database, name)
            storage = database.optuna_storage(claim.fence)
            drawn = optuna.samplers.RandomSampler(seed=number)  # the same in both
            by = database.optuna_study(name, storage=storage, sampler=drawn)
            space.suggest(optuna.Trial(by, claim.trial_id), study.spec.agent)
            found = {LABEL: 4_000.0 if number % 2 else 7_500.0}
            by_hand(database, claim, 100.0 - number, found if more else {})
        claim = take(database, name)
        sampled = database.optuna_study(
            name,
            storage=database.optuna_storage(claim.fence),
            sampler=make_sampler(study.spec, claim.number),
        )
        suggested[name] = space.suggest(optuna.Trial(sampled, claim.trial_id), study.spec.agent)
        scores = [_get_infeasible_trial_score(each) for each in sampled.get_trials()[:8]]
        assert scores == ([0.5, 0.0] * 4 if more else [0.0] * 8)
    assert suggested["free"] != suggested["bound"]


def test_what_a_pruned_trial_leaves_to_samplers(open_database: Open) -> None:
    database = open_database()
    more = SMALL.format(0) + '[[constraints]]\nmeasure = "steps_to_1e9"\nat_most = 20\n'
    more = more.replace("1e9", "1000000")
    create(
        database,
        trials=4,
        train_steps=64,
        pruner='{ name = "median", n_startup_trials = 1 }',
        more=more,
    )
    with pytest.raises(Exception, match="none of"):
        run_here(open_database)
    pruned = [
        trial
        for trial in database.optuna_study("trivial").get_trials()
        if trial.state == TrialState.PRUNED
    ]
    assert pruned, "of this seed"
    for trial in pruned:
        told, last = trial.user_attrs["constraints"], max(trial.intermediate_values)
        assert told == {
            "parameters <= 58": 58.0,
            "spread <= 0": None,
            "steps_to_1000000 <= 20": float(last) if last > 20 else None,
        }
        assert list(trial.constraints.values()) == [0.0, 0.0, max(last / 20 - 1, 0.0)]
        assert replay_trial(
            database,
            "trivial",
            trial.number,
            final=False,
            device=None,
            console=Console(quiet=True),
        )


def test_the_constraint_that_reads_a_measure_is_stored_as_said() -> None:
    made = Constraint.model_validate({"measure": "parameters", "at_most": 5_000})
    assert json.loads(made.model_dump_json(exclude_none=True)) == {
        "measure": "parameters",
        "at_most": 5_000.0,
    }
