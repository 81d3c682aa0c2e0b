"""Results from elsewhere as trials that the sampler knows, and that count for nothing else."""

from __future__ import annotations

import csv
import pickle
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from sqlalchemy import URL, Connection

from coordinator.status import as_dict, snapshot
from coordinator.watch import step
from tests.support.commands import command, told
from tests.support.invariants import check_invariants
from tests.support.server import Server, plain
from tests.support.studies import (
    at_once,
    create,
    states,
    take,
    take_all,
    train_by_hand,
    trivial_study,
)
from trialfleet.cli.show.display import summary
from trialfleet.errors import StudyDeletedError
from trialfleet.search import space
from trialfleet.search.samplers import make_sampler
from trialfleet.store import studies
from trialfleet.store.optuna.history import Curves
from trialfleet.store.steering import course, importing, tables
from trialfleet.store.steering.adding import searching
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import following

TABLE = """\
stage,number,state,value,param.learning_rate,param.gamma,note
search,4,COMPLETE,400,0.001,0.95,x
search,5,COMPLETE,450.5,0.002,0.96,
search,6,FAIL,,0.002,0.96,
search,7,COMPLETE,500,0.002,0.5,outside
final,0,COMPLETE,500,0.002,0.96,
"""


@pytest.fixture
def in_time_zone() -> Iterator[Callable[[str], None]]:
    """Lets this process be elsewhere, until the test ends."""
    with pytest.MonkeyPatch.context() as patched:

        def go(zone: str) -> None:
            patched.setenv("TZ", zone)
            time.tzset()

        yield go
    time.tzset()


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
        "trial 7: gamma: 0.5; must be a number from 0.9 to 0.999\n"
    )
    study = studies.find(database, "trivial")
    assert (study.budget, study.imported, study.asked) == (5, 2, 3)
    trials = database.optuna_study("trivial").get_trials()
    assert [trial.value for trial in trials] == [400.0, 450.5]
    assert trials[0].params == {"learning_rate": 0.001, "gamma": 0.95}
    origin = trials[0].user_attrs["imported"]
    assert (origin["from"], origin["number"], len(origin["id"])) == ("trials.csv", 4, 32)
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
        "trivial: 5 trials imported, 1 left out: trial 5: constraint.parameters: is missing;"
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
            "none of the 1 results fits the study: line 2: learning_rate: is miss",
        ),
        ("gamma\n0.95\n", "no.csv has no column `value` or `score`, or no rows"),
        ("value\n", "no.csv has no column `value` or `score`, or no rows"),
        ("value,gamma\nnan,0.95\n", "no.csv: line 2: value is 'nan', not a number"),
        (
            "value,gamma,learning_rate,batch_size\n1,0.95,0.001,8.0\n",
            "line 2: batch_size: 8; must be 4, as the study fixes it",
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
    assert "nothing.csv: No such file or directory. Check that path, then" in told(capsys)
    assert command("import", "trivial", "nothing.log") == 2
    assert "nothing.log: No such file or directory" in told(capsys)
    assert command("import", "trivial", "postgresql://me:secret@127.0.0.1:1/x") == 2
    assert "secret" not in told(capsys)
    optuna.create_study(study_name="down", storage="sqlite:///down.db", direction="minimize")
    assert command("import", "trivial", "sqlite:///down.db", "--study", "down") == 2
    line = told(capsys)
    assert "directions of study 'down' there are min, and those of 'trivial' are score:max" in line


def plain_optuna(where: str, *, trials: int = 4, name: str = "other", seed: int = 1) -> Any:
    """A study of stock Optuna's at a URL or, a name without one, in a journal."""
    storage: Any = where
    if "://" not in where:
        storage = optuna.storages.JournalStorage(JournalFileBackend(where))
    other = optuna.create_study(
        study_name=name,
        storage=storage,
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=seed),
    )

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
        return trial.suggest_float("gamma", 0.9, 0.999)

    other.optimize(objective, n_trials=trials)
    return other


def test_results_of_another_file_with_the_same_name_and_numbers_are_other_results(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    create(database)
    for folder, value in (("a", 1), ("b", 2)):
        Path(folder).mkdir()
        table = f"number,value,learning_rate,gamma\n0,{value},0.001,0.95\n1,{value},0.002,0.95\n"
        Path(folder, "trials.csv").write_text(table)
        assert command("import", "trivial", f"{folder}/trials.csv") == 0
        assert capsys.readouterr().out == "trivial: 2 trials imported\n"


def test_results_of_another_study_with_the_same_name_and_values_are_other_results(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a small search space brings about: the same choices, and scores that are at the cap."""
    create(database)
    for file in ("a.db", "b.db"):
        plain_optuna(f"sqlite:///{file}")
        assert command("import", "trivial", file) == 0
        assert capsys.readouterr().out == "trivial: 4 trials imported\n"
    assert len({each.value for each in database.optuna_study("trivial").trials}) == 4


def test_the_same_results_are_known_in_whatever_form_they_come(
    database: Database,
    capsys: pytest.CaptureFixture[str],
    in_time_zone: Callable[[str], None],
) -> None:
    study = create(database)
    in_time_zone("Asia/Kolkata")
    other = plain_optuna("sqlite:///old.db")
    copy = optuna.storages.JournalStorage(JournalFileBackend("moved.log"))
    optuna.copy_study(from_study_name="other", from_storage="sqlite:///old.db", to_storage=copy)
    frame(other, "frame.csv")
    in_time_zone("America/New_York")
    capsys.readouterr()
    assert command("import", "trivial", "old.db") == 0
    assert capsys.readouterr().out == "trivial: 4 trials imported\n"
    Path("renamed.db").write_bytes(Path("old.db").read_bytes())
    for source in ("renamed.db", "sqlite:///old.db", "moved.log", "frame.csv"):
        assert command("import", "trivial", source) == 0
        assert capsys.readouterr().out == "trivial: 0 trials imported, 4 were there already\n"
    assert studies.find(database, study.name).imported == 4
    # And what was added there since then is new.
    other.tell(other.ask(fixed_distributions=space.distributions(study.spec.agent)), 5.0)
    assert command("import", "trivial", "old.db") == 0
    assert "1 trials imported, 4 were there already" in capsys.readouterr().out


def frame(study: optuna.Study, path: str) -> None:
    """What `study.trials_dataframe().to_csv(path)` writes, without pandas."""
    with Path(path).open("w", newline="") as file:
        table = csv.writer(file)
        names = [*study.trials[0].params]
        table.writerow(
            ["", "number", "value", "datetime_start", "datetime_complete", "duration"]
            + [f"params_{name}" for name in names]
            + ["state"]
        )
        for each in study.trials:
            begun, ended = each.datetime_start, each.datetime_complete
            table.writerow(
                [each.number, each.number, each.value, begun, ended, "0 days 00:00:00.1"]
                + [each.params[name] for name in names]
                + [each.state.name]
            )


def test_lines_without_numbers_may_move(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    create(database)
    first, second = "1,0.001,0.95\n", "2,0.002,0.95\n"
    table = Path("own.csv")
    table.write_text(f"value,learning_rate,gamma\n{first}{second}{first}")
    assert command("import", "trivial", "own.csv") == 0
    assert capsys.readouterr().out == "trivial: 3 trials imported\n"
    table.write_text(f"value,learning_rate,gamma\n3,0.003,0.95\n{second}{first}{first}")
    assert command("import", "trivial", "own.csv") == 0
    assert capsys.readouterr().out == "trivial: 1 trials imported, 3 were there already\n"


def rows(count: int) -> str:
    lines = "".join(f"{n},{n},{0.001 + n / 1e6},{0.95 + n / 1e5}\n" for n in range(count))
    return f"number,value,learning_rate,gamma\n{lines}"


def test_a_worker_claims_between_two_batches_and_the_rest_comes_once(
    database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import that ends half-way leaves whole batches; the same import again adds the others."""
    study = create(database, trials=9)
    Path("many.csv").write_text(rows(230))
    numbers: list[int] = []

    def lock_after_a_claim(connection: Connection, study: Study) -> Study:
        if len(numbers) == 2:
            raise StudyDeletedError("the machine goes away")
        numbers.append(take(database).number)  # in a session of its own, which waits for the lock
        return searching(connection, study)

    with monkeypatch.context() as patched:
        patched.setattr(importing, "searching", lock_after_a_claim)
        assert command("import", "trivial", "many.csv") == 2
    assert "the machine goes away" in told(capsys)
    found = studies.find(database, "trivial")
    batch = numbers[1] - numbers[0] - 1
    assert (found.imported, found.budget) == (2 * batch, 9 + 2 * batch)
    assert 10 <= batch <= 100
    assert command("import", "trivial", "many.csv") == 0
    said = f"{230 - 2 * batch} trials imported, {2 * batch} were there already"
    assert said in capsys.readouterr().out
    trials = database.optuna_study("trivial").get_trials()
    values = [each.value for each in trials if each.state.is_finished()]
    assert values == [float(number) for number in range(230)]
    # Samplers read finished trials in the order of their commits, which is that of their numbers.
    in_order = database.optuna_storage().finished_in_order(study.search_id)
    assert [each.value for each in in_order] == values


def test_two_imports_of_the_same_at_once_add_it_once(
    open_database: Callable[[], Database], capsys: pytest.CaptureFixture[str]
) -> None:
    study = create(open_database())
    Path("many.csv").write_text(rows(150))
    planned = importing.plan(tables.from_csv(Path("many.csv"), study.spec), study.spec)
    again = importing.plan(tables.from_csv(Path("many.csv"), study.spec), study.spec)
    first, second = at_once(
        lambda: importing.import_results(open_database(), study, planned),
        lambda: importing.import_results(open_database(), study, again),
    )
    assert first.added + second.added == first.there + second.there == 150
    assert studies.find(open_database(), "trivial").imported == 150


# What people have, and how they name it.


def test_a_file_is_told_by_what_it_holds(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    create(database)
    Path("SHOUTED.CSV").write_text("value,learning_rate,gamma\n1,0.001,0.95\n")
    Path("table.txt").write_text("value;learning_rate;gamma\n2;0.001;0.95\n")
    plain_optuna("sqlite:///lite")
    plain_optuna("journal", seed=2)
    for source, count in {"SHOUTED.CSV": 1, "table.txt": 1, "lite": 4, "journal": 4}.items():
        capsys.readouterr()
        assert command("import", "trivial", source) == 0, source
        assert capsys.readouterr().out == f"trivial: {count} trials imported\n"


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2"])
def test_a_study_in_postgresql_is_imported_by_the_url_that_everybody_writes(
    database: Database, server: Server, capsys: pytest.CaptureFixture[str], scheme: str
) -> None:
    create(database)
    with server.fresh_database(template="template1") as url:
        plain_optuna(url.render_as_string(hide_password=False))
        optuna_url = url.set(drivername=scheme).render_as_string(hide_password=False)
        assert command("import", "trivial", optuna_url) == 0
    assert capsys.readouterr().out == "trivial: 4 trials imported\n"


def test_a_source_that_cannot_be_read_is_one_line_with_the_reason(
    database: Database, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    create(database)
    for name in ("one", "two"):
        plain_optuna("sqlite:///both.db", name=name)
    optuna.storages.RDBStorage("sqlite:///empty.db")
    Path("pickled").write_bytes(pickle.dumps({}))
    Path("noise").write_bytes(b"\1\0\2")
    Path("torn.log").write_text('{"op_code": 0, "worker_id"\n{"op_code": 99}\n')
    sqlite3.connect("foreign.db").execute("CREATE TABLE a (b)")
    mine = server.url.set(database="nowhere").render_as_string(hide_password=False)
    for arguments, said in (
        (["both.db"], "--study must say which of 2 studies: 'one', 'two'"),
        (["both.db", "--study", "tow"], "no study is called 'tow' (did you mean two?); there are"),
        (["empty.db"], "there is no study in it"),
        (["foreign.db"], "foreign.db has no tables of Optuna's"),
        (["sqlite:///missing.db"], "missing.db: No such file or directory"),
        (["sqlite://"], "a study in memory ends with its process; write study.trials_dataframe()"),
        (["pickled"], "pickled is a pickle, which runs code of its own"),
        (["noise"], "noise is neither a CSV file nor SQLite's, nor a journal of Optuna's"),
        (["torn.log"], "torn.log is a journal that cannot be read"),
        (["trials.csv", "--study", "x"], "trials.csv is a CSV file, and has no studies"),
        (
            ["postgresql://me:secret@127.0.0.1:1/x"],
            "postgresql://127.0.0.1/x cannot be read: PostgreSQL at 127.0.0.1",
        ),
        ([mine], 'database "nowhere" does not exist'),
        (["mysql://me:secret@host/x"], "takes the module 'MySQLdb', which is not installed here"),
        (["redis://me:secret@host"], "redis:// is no database that SQLAlchemy knows"),
    ):
        assert command("import", "trivial", *arguments) == 2, arguments
        line = told(capsys)
        assert said in line
        assert "secret" not in line
    assert not Path("missing.db").exists()
    with sqlite3.connect("foreign.db") as foreign:
        assert foreign.execute("SELECT name FROM sqlite_master").fetchall() == [("a",)]
    assert studies.find(database, "trivial").imported == 0


NAMED = """
[agent]
learning_rate = { low = 1e-4, high = 1e-2, log = true }
gamma = { low = 0.9, high = 0.999 }
net_arch = { choices = [[32], [64, 64]] }
"""


def test_names_from_elsewhere_are_translated(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("named.toml").write_text(f'name = "named"\n{NAMED}')
    other = optuna.create_study(study_name="dqn", storage="sqlite:///d.db", direction="maximize")
    for size in ("small", "medium", "huge"):
        trial = other.ask()
        trial.suggest_float("lr", 1e-4, 1e-2, log=True)
        trial.suggest_float("gamma", 0.9, 0.99)
        trial.suggest_categorical("net_arch", ["small", "medium", "huge"])
        other.enqueue_trial({"net_arch": size})
        other.tell(trial, 1.0)
    for _ in range(3):
        trial = other.ask()
        trial.suggest_float("lr", 1e-4, 1e-2, log=True)
        trial.suggest_float("gamma", 0.9, 0.99)
        trial.suggest_categorical("net_arch", ["small", "medium", "huge"])
        other.tell(trial, 2.0)
    names = ["--rename", "lr=learning_rate", "--choice", "net_arch:small=[32]"]
    names += ["--choice", "net_arch:medium=[64, 64]"]
    enqueued = [each for each in other.trials if each.value == 2.0]
    frame(other, "frame.csv")
    capsys.readouterr()
    assert command("import", "named.toml", "d.db", *names) == 0
    assert "net_arch: 'huge'; must be one of its choices" in capsys.readouterr().out
    trials = database.optuna_study("named").get_trials()
    ours = {"small": "[32]", "medium": "[64, 64]"}
    wanted = [ours[x] for each in other.trials if (x := each.params["net_arch"]) in ours]
    assert [each.params["net_arch"] for each in trials] == wanted
    assert {"[32]", "[64, 64]"} <= {*wanted}, enqueued
    assert trials[0].params.keys() == {"learning_rate", "gamma", "net_arch"}
    # The same from a table.
    assert command("import", "named.toml", "frame.csv", *names) == 0
    assert f"0 trials imported, {len(wanted)} were there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rename", "lr"], "--rename: 'lr'; must be THERE=HERE, such as lr=learning_rate"),
        (["--rename", "lr=learnin_rate"], "(did you mean learning_rate?)"),
        (["--rename", "lt=gamma"], "no result has a hyperparameter 'lt'; must be one of gamma, l"),
        (["--choice", "gamma"], "--choice: 'gamma'; must be KNOB:NAME=VALUE"),
        (["--choice", "gama:x=1"], "--choice.gama: unknown key (did you mean gamma?)"),
        (["--choice", "gamma:x=["], "--choice.gamma:x: '['; must be a TOML value"),
        (["--choice", "gamma:x=1"], "--choice: no result has gamma = 'x'; must be one of '0.5', "),
        (["--set", "seed=4"], "--set goes with a study file"),
    ],
)
def test_names_that_nothing_has_are_refused(
    database: Database, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    create(database)
    assert command("import", "trivial", "trials.csv", *options) == 2
    assert said in told(capsys)
    assert studies.find(database, "trivial").imported == 0


def test_whoever_reads_that_something_is_missing_reads_what_is_there(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    create(database)
    Path("other.csv").write_text("number,value,params_lr,params_gamma\n4,1,0.001,0.95\n")
    assert command("import", "trivial", "other.csv") == 2
    line = told(capsys)
    assert "trial 4: learning_rate: is missing" in line
    assert "the results have lr; --rename lr=KNOB says which of ours it is" in line


# Where there is nothing yet.


def test_a_study_file_and_results_are_all_that_a_fresh_folder_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIALFLEET_DATABASE_URL")
    Path("study.toml").write_text(trivial_study(sampler='"tpe"', trials=2))
    plain_optuna("sqlite:///old.db")
    # Nothing is made of a source that cannot be read.
    assert command("import", "study.toml", "odl.db") == 2
    assert "odl.db: No such file" in told(capsys)
    assert not Path(".trialfleet").exists()
    assert command("import", "trivial", "old.db") == 2
    assert "no database: set TRIALFLEET_DATABASE_URL, or" in told(capsys)
    assert command("import", "study.toml", "old.db") == 0
    assert capsys.readouterr().out == "trivial: 4 trials imported\n"
    assert command("import", "study.toml", "old.db") == 0
    assert "4 were there already" in capsys.readouterr().out
    assert command("status", "trivial") == 0
    assert "4 imported trials beside the budget" in capsys.readouterr().out
    # Another file of that name is another study.
    assert command("import", "study.toml", "old.db", "--set", "seed=4") == 2
    assert "exists with a different study file: seed" in told(capsys)


def test_a_study_is_submitted_in_a_fresh_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIALFLEET_DATABASE_URL")
    Path("study.toml").write_text(trivial_study())
    assert command("submit", "study.toml") == 0
    assert capsys.readouterr().out.startswith("trivial: submitted, 4 trials")


# What the other commands say of an imported trial.


def test_whoever_asks_after_an_imported_trial_is_told_that_it_is_one(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    create(database)
    assert command("import", "trivial", "trials.csv") == 0
    capsys.readouterr()
    assert command("replay", "trivial", "1") == 2
    line = told(capsys)
    assert "trial 1 of 'trivial' was imported (trial 5 of trials.csv)" in line
    assert "no worker has trained it" in line
    assert command("logs", "trivial", "1") == 0
    out = capsys.readouterr().out
    assert "imported: trial 5 of trials.csv; no worker has trained it" in out
    assert "no worker has had it yet" not in out
    assert command("report", "trivial", "--csv", "report.csv") == 0
    with Path("report.csv").open() as file:
        found = [*csv.DictReader(file)]
    assert [each["imported"] for each in found] == [
        "trial 4 of trials.csv",
        "trial 5 of trials.csv",
    ]


def test_imported_trials_take_no_place_among_the_best_that_are_watched(database: Database) -> None:
    study = create(database)
    assert command("import", "trivial", "trials.csv") == 0
    train_by_hand(database, study, take(database), scores=[1.0, 3.0])
    with database.transaction() as connection:
        best = following.watched(connection, study.search_id, best=1)
    assert [each.number for each in best] == [2]
