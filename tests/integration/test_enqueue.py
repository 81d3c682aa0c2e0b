"""Configurations that people ask for, in the study file and while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import URL

from coordinator.create import create_or_join
from coordinator.watch import step
from tests.support.commands import command, told
from tests.support.invariants import check_invariants
from tests.support.server import plain
from tests.support.studies import (
    at_once,
    create,
    finish,
    states,
    take,
    take_all,
    train_by_hand,
    trivial_study,
)
from trialfleet.errors import SteeringError
from trialfleet.store import studies
from trialfleet.store.leases import Claim
from trialfleet.store.steering import adding, course
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec
from worker.configuration import open_trial

Open = Callable[[], Database]
TWO = """
[[enqueue]]
learning_rate = 1e-3
gamma = 0.95

[[enqueue]]
gamma = 0.9
"""


def enqueuing_spec(**fields: Any) -> Spec:
    return parse(trivial_study(**fields) + TWO, source="trivial.toml")


def opened(database: Database, study: Study, claim: Claim) -> dict[str, Any]:
    storage = database.optuna_storage(claim.fence)
    return dict(open_trial(database, study, claim, storage=storage, device="cpu").job.knobs)


def test_those_of_the_file_come_first_with_their_values(database: Database) -> None:
    study = create_or_join(database, enqueuing_spec(trials=3))
    assert states(database, study.search_id) == [(0, "WAITING"), (1, "WAITING")]
    first, second, third = (opened(database, study, claim) for claim in take_all(database))
    assert (first["learning_rate"], first["gamma"]) == (1e-3, 0.95)
    assert second["gamma"] == 0.9
    assert second["learning_rate"] not in (first["learning_rate"], third["learning_rate"])
    trial = database.optuna_study("trivial").get_trials()[0]
    assert trial.user_attrs["enqueued"] == "study file"
    assert trial.params == {"learning_rate": 1e-3, "gamma": 0.95}


def test_however_many_coordinators_start_they_are_there_once(open_database: Open) -> None:
    databases = [open_database() for _ in range(6)]
    spec = enqueuing_spec(trials=3)
    found = at_once(*[lambda each=each: create_or_join(each, spec) for each in databases])
    assert states(databases[0], found[0].search_id) == [(0, "WAITING"), (1, "WAITING")]


def test_an_enqueued_trial_that_was_lost_keeps_its_values(database: Database) -> None:
    from trialfleet.store import leases

    study = create_or_join(database, enqueuing_spec(trials=3))
    claim = take(database)
    before = opened(database, study, claim)
    leases.release(database, claim)
    again = take(database)
    assert again.trial_id == claim.trial_id
    assert opened(database, study, again) == before


def test_one_is_enqueued_while_the_study_runs(database: Database) -> None:
    study = create(database, trials=3)
    under_way = take(database)
    assert adding.enqueue(database, study, {"gamma": 0.91}) == 1
    claim = take(database)
    assert (claim.number, opened(database, study, claim)["gamma"]) == (1, 0.91)
    for each in (under_way, claim, take(database)):
        train_by_hand(database, study, each, scores=[1.0, 2.0])
    assert step(database, study.name).stage == "final"


def test_enqueued_trials_are_within_the_budget(open_database: Open) -> None:
    databases = [open_database() for _ in range(5)]
    study = create(databases[0], trials=4, max_failures=2)

    def ask(database: Database) -> bool:
        try:
            adding.enqueue(database, study, {"gamma": 0.91})
        except SteeringError:
            return False
        return True

    claims, *_ = at_once(
        lambda: take_all(databases[0]), *[lambda each=each: ask(each) for each in databases[1:]]
    )
    database = databases[0]
    claims += take_all(database)
    assert [number for number, _ in states(database, study.search_id)] == [0, 1, 2, 3]
    with pytest.raises(SteeringError, match="extend trivial --trials 5` makes room"):
        adding.enqueue(database, study, {"gamma": 0.91})
    assert len(claims) == 4
    # One that fails is replaced by the sampler's, as any other is.
    finish(database, claims[0], state="FAIL")
    for each in (*claims[1:], *take_all(database)):
        train_by_hand(database, study, each, scores=[1.0, 2.0])
    while not step(database, study.name).ended:
        for each in take_all(database):
            trial = database.optuna_study(study.final_name).get_trials()[each.number]
            train_by_hand(database, study, each, scores=[1.0] * len(trial.user_attrs["seeds"]))
    check_invariants(database, study.name)


def test_a_stop_ends_those_that_nobody_has_begun(database: Database) -> None:
    study = create_or_join(database, enqueuing_spec(trials=4, max_failures=0))
    train_by_hand(database, study, take(database), scores=[1.0, 2.0])
    study = course.stop(database, study, "by hand")
    assert states(database, study.search_id) == [(0, "COMPLETE"), (1, "FAIL")]
    with pytest.raises(SteeringError, match="is being stopped: by hand"):
        adding.enqueue(database, study, {"gamma": 0.91})
    study = step(database, study.name)
    assert (study.stage, study.budget) == ("final", 1)
    with pytest.raises(SteeringError, match="is over"):
        adding.enqueue(database, study, {"gamma": 0.91})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("gamma=2", "gamma: 2; must be a number from 0.9 to 0.999"),
        ("gama=0.9", "gama: unknown key (did you mean gamma?)"),
        ("batch_size=8", "batch_size: is fixed by the study file; must be a knob that is searched"),
        ("gamma", "'gamma'; must be KNOB=VALUE, such as gamma=0.99"),
    ],
)
def test_the_command_refuses_what_no_sampler_could_suggest(
    database: Database,
    database_url: URL,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    values: str,
    said: str,
) -> None:
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(database_url))
    study = create(database)
    assert command("enqueue", "trivial", values) == 2
    assert said in told(capsys)
    assert command("enqueue", "trivial", "gamma=0.95", "learning_rate=1e-3") == 0
    assert capsys.readouterr().out == "trivial: enqueued as trial 0\n"
    assert states(database, study.search_id) == [(0, "WAITING")]
    assert studies.find(database, "trivial").budget == 4
