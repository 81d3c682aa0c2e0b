"""Results from elsewhere as trials that the sampler knows, and that count for nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from sqlalchemy import URL

from coordinator.status import as_dict, snapshot
from coordinator.watch import step
from tests.support.commands import command, told
from tests.support.invariants import check_invariants
from tests.support.server import plain
from tests.support.studies import create, states, take, take_all, train_by_hand
from trialfleet.cli.show.display import summary
from trialfleet.search import space
from trialfleet.search.samplers import make_sampler
from trialfleet.store import studies
from trialfleet.store.optuna.history import Curves
from trialfleet.store.steering import course
from trialfleet.store.storage import Database

TABLE = """\
stage,number,state,value,param.learning_rate,param.gamma,note
search,4,COMPLETE,400,0.001,0.95,x
search,5,COMPLETE,450.5,0.002,0.96,
search,6,FAIL,,0.002,0.96,
search,7,COMPLETE,500,0.002,0.5,outside
final,0,COMPLETE,500,0.002,0.96,
"""


@pytest.fixture(autouse=True)
def environment(database_url: URL, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(database_url))
    monkeypatch.chdir(tmp_path)
    Path("trials.csv").write_text(TABLE)


def test_a_table_becomes_completed_trials_beside_the_budget(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    create(database, trials=3, top=2, final_seeds=2)
    assert command("import", "trivial", "trials.csv") == 0
    assert capsys.readouterr().out == (
        "trivial: 2 trials imported, 1 left out: "
        "7: gamma: 0.5; must be a number from 0.9 to 0.999\n"
    )
    study = studies.find(database, "trivial")
    assert (study.budget, study.imported, study.asked) == (5, 2, 3)
    trials = database.optuna_study("trivial").get_trials()
    assert [trial.value for trial in trials] == [400.0, 450.5]
    assert trials[0].params == {"learning_rate": 0.001, "gamma": 0.95}
    assert trials[0].user_attrs == {"imported": {"from": "trials.csv", "number": 4}}
    # The workers train as many as before, and none of the imported is best or a finalist.
    claims = take_all(database)
    assert [claim.number for claim in claims] == [2, 3, 4]
    history = Curves(database, study.search_id)
    for claim in claims:
        train_by_hand(database, study, claim, scores=[1.0, float(claim.number)])
    history.update()
    assert history.complete == 3
    assert snapshot(database, study).best == (4, 2.5)
    assert as_dict(snapshot(database, study))["imported"] == 2
    assert summary(snapshot(database, study)).startswith("trivial: 3/3 trials | 3 complete, ")
    while not (study := step(database, "trivial")).ended:
        for claim in take_all(database):
            trial = database.optuna_study(study.final_name).get_trials()[claim.number]
            train_by_hand(database, study, claim, scores=[1.0] * len(trial.user_attrs["seeds"]))
    assert study.result is not None
    assert [row["trial"] for row in study.result["finalists"]] == [4, 3]
    check_invariants(database, "trivial")
    # Its own file joins it, and its report is made.
    assert create(database, trials=3, top=2, final_seeds=2).search_id == study.search_id
    assert command("report", "trivial", "-o", "report.html", "--csv", "own.csv") == 0
    assert "<b>3 of 3</b><span>trials</span>" in Path("report.html").read_text(encoding="utf-8")
    course.extend(database, study, 4)
    assert studies.find(database, "trivial").asked == 4


def test_what_was_imported_is_not_imported_again(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    create(database)
    assert command("import", "trivial", "trials.csv") == 0
    capsys.readouterr()
    assert command("import", "trivial", "trials.csv") == 0
    assert capsys.readouterr().out.startswith(
        "trivial: 0 trials imported, 2 were there already, 1 left out"
    )
    assert studies.find(database, "trivial").imported == 2


def test_the_sampler_learns_from_them(database: Database) -> None:
    study = create(database, sampler='{ name = "tpe", n_startup_trials = 2 }', trials=9)
    rows = "\n".join(f"{n},{0.001 + n / 1e6},{0.95 + n / 1e4}" for n in range(12))
    Path("many.csv").write_text(f"value,learning_rate,gamma\n{rows}\n")
    assert command("import", "trivial", "many.csv") == 0
    number = take(database).number
    assert number == 12
    sampler = make_sampler(study.spec, number)
    optuna_study = database.optuna_study("trivial", sampler=sampler)
    assert isinstance(sampler, optuna.samplers.TPESampler)
    completed = optuna_study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    assert len(completed) == 12


@pytest.mark.parametrize("kind", ["database", "journal"])
def test_a_study_in_a_storage_of_optunas_is_imported(
    database: Database, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    where = "sqlite:///other.db" if kind == "database" else "journal.log"
    storage: Any = where if kind == "database" else JournalFileBackend(where)
    if kind == "journal":
        storage = optuna.storages.JournalStorage(storage)
    other = optuna.create_study(study_name="other", storage=storage, direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
        trial.suggest_float("unknown", 0, 1)
        return trial.suggest_float("gamma", 0.9, 0.999)

    other.optimize(objective, n_trials=4)
    create(database)
    assert command("import", "trivial", where, "--study", "other") == 0
    assert capsys.readouterr().out == "trivial: 4 trials imported\n"
    trials = database.optuna_study("trivial").get_trials()
    assert [trial.value for trial in trials] == [trial.value for trial in other.trials]


BOUNDED = """
[[constraints]]
measure = "parameters"
at_most = 50
[[constraints]]
measure = "score"
at_least = 2.0
"""


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_several_objectives_and_constraints_inform_the_sampler(
    database: Database, capsys: pytest.CaptureFixture[str], sampler: str
) -> None:
    storage = optuna.storages.JournalStorage(JournalFileBackend("journal.log"))
    other = optuna.create_study(
        study_name="other", storage=storage, directions=["maximize", "minimize"]
    )
    for number in range(6):
        trial = other.ask()
        trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
        trial.suggest_float("gamma", 0.9, 0.999)
        if number < 5:
            trial.set_user_attr("constraints", {"parameters <= 9": 40.0 + 5 * number})
        other.tell(trial, [float(number), 10.0])
    options = "population_size = 4" if sampler == "nsga2" else "n_startup_trials = 2"
    study = create(
        database,
        objectives='["score", "steps_to_10"]',
        sampler=f'{{ name = "{sampler}", {options} }}',
        more=BOUNDED,
    )
    assert command("import", "trivial", "journal.log") == 0
    assert capsys.readouterr().out == (
        "trivial: 5 trials imported, 1 left out: 5: constraint.parameters: is missing;"
        " must be given, as the study bounds it\n"
    )
    trials = database.optuna_study("trivial").get_trials()
    assert [trial.values for trial in trials] == [[float(number), 10.0] for number in range(5)]
    assert trials[4].user_attrs["constraints"] == {"parameters <= 50": 60.0, "score >= 2": 4.0}
    # By how much of the bound they exceed it, as a worker writes it.
    assert trials[0].constraints == {"0": -0.2, "1": 1.0}
    assert trials[4].constraints == {"0": 0.2, "1": -1.0}
    # No worker has come close to anything yet.
    assert (snapshot(database, study).best, snapshot(database, study).closest) == (None, None)
    claim = take(database)
    storage_of_ours = database.optuna_storage(claim.fence)
    made = make_sampler(study.spec, claim.number)
    optuna_study = database.optuna_study("trivial", storage=storage_of_ours, sampler=made)
    space.suggest(optuna.Trial(optuna_study, claim.trial_id), study.spec.agent)
    if isinstance(made, optuna.samplers.NSGAIISampler):
        parents = made.get_parent_population(optuna_study, 1)
        assert 2 in [trial.number for trial in parents], "the feasible one with the lowest number"
        assert made.get_trial_generation(optuna_study, optuna_study.get_trials()[5]) == 1


def test_directions_must_agree(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    create(database, objectives='["score", "steps_to_10"]')
    up, down = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
    for directions in ([up, down], [down, up], [up]):
        other = optuna.create_study(storage="sqlite:///o.db", directions=directions)
        other.tell(other.ask(), [1.0] * len(directions))
        assert command("import", "trivial", "sqlite:///o.db", "--study", other.study_name) == 2
        fits = directions == [up, down]
        said = "learning_rate: is missing" if fits else "write the results that you want"
        assert said in told(capsys)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            "value,gamma\n1,0.95\n",
            "none of the 1 results fits the study: 0: learning_rate: is miss",
        ),
        ("gamma\n0.95\n", "no.csv has no column `value` or `score`, or no rows"),
        ("value\n", "no.csv has no column `value` or `score`, or no rows"),
        ("value,gamma\nnan,0.95\n", "no.csv: row 1: value is 'nan', not a number"),
        (
            "value,gamma,learning_rate,batch_size\n1,0.95,0.001,8.0\n",
            "0: batch_size: 8; must be 4, as the study fixes it",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    database: Database, capsys: pytest.CaptureFixture[str], table: str, said: str
) -> None:
    study = create(database)
    Path("no.csv").write_text(table)
    assert command("import", "trivial", "no.csv") == 2
    assert said in told(capsys)
    assert states(database, study.search_id) == []


def test_other_sources_that_cannot_be_had_are_one_line(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    create(database)
    assert command("import", "trivial", "nothing.csv") == 2
    assert "nothing.csv: No such file or directory" in told(capsys)
    assert command("import", "trivial", "nothing.log") == 2
    assert "no such file: nothing.log" in told(capsys)
    assert command("import", "trivial", "postgresql://me:secret@127.0.0.1:1/x") == 2
    assert "secret" not in told(capsys)
    optuna.create_study(study_name="down", storage="sqlite:///down.db", direction="minimize")
    assert command("import", "trivial", "sqlite:///down.db", "--study", "down") == 2
    line = told(capsys)
    assert "directions of study 'down' there are min, and those of 'trivial' are score:max" in line
