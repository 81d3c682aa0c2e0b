"""Notes and artifacts that a study has in optuna-dashboard, by its HTTP API and its own reader."""

from __future__ import annotations

import json
from typing import Any

import pytest
from safetensors.numpy import load
from sqlalchemy import text

from coordinator.dashboard.plots import attach_plots
from coordinator.dashboard.publish import attach, publish
from coordinator.dashboard.server import make_app
from coordinator.watch import step, watch
from tests.support.studies import create, finish, take, train_by_hand
from trialfleet.artifacts.stores import open_store
from trialfleet.settings import Settings
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import shown

dashboard = pytest.importorskip("optuna_dashboard")


def ended(database: Database) -> Study:
    """A study of three trials, one of them failed, and its final stage."""
    study = create(database, trials=2, top=1, final_seeds=2)
    finish(database, take(database), state="FAIL", attributes={"reason": "by hand"})
    for value in (30.0, 20.0):
        train_by_hand(database, study, take(database), scores=[value, value + 2])
    study = step(database, study.name)
    train_by_hand(database, study, take(database), scores=[25.0, 28.0])
    return watch(database, study.name, settings=Settings(), pause=lambda _: None)


def note(database: Database, study: str) -> str:
    """As optuna-dashboard reads it."""
    return str(dashboard.get_note(database.optuna_study(study)))


def artifacts(database: Database, study_id: int) -> dict[str, str]:
    """The names of the files listed with an Optuna study, and of their artifacts."""
    attributes = database.optuna_storage().get_study_system_attrs(study_id)
    found = [json.loads(v) for key, v in attributes.items() if key.startswith("artifacts:")]
    return {each["filename"]: each["artifact_id"] for each in found}


def test_a_study_tells_what_was_asked_and_what_was_found(database: Database) -> None:
    study = create(database, trials=2)
    publish(database, study)
    told = note(database, "trivial")
    assert "learning\\_rate" in told
    assert "Nothing yet" in told


def test_a_race_of_one_block_is_told_as_one(database: Database) -> None:
    study = create(database, trials=2, race=True, final_seeds=2)
    publish(database, study)
    assert "at most 1 block of 2 seeds" in note(database, "trivial")


def test_the_end_is_told_in_both_studies_and_the_finalist_has_a_note(database: Database) -> None:
    study = ended(database)
    assert study.final_id is not None
    for name in (study.name, study.final_name):
        assert "Trial 1 won, with a mean of 26.5 over 2 fresh seeds" in note(database, name)
    attributes = database.optuna_storage().get_study_system_attrs(study.search_id)
    noted = {key.split(":")[1] for key in attributes if key.endswith("note_ver")}
    finalist = database.optuna_study(study.name).get_trials()[1]
    assert noted == {"note_ver", str(finalist._trial_id)}
    assert "Winner" in attributes[f"dashboard:{finalist._trial_id}:note_str:0"]


def test_repeated_it_is_there_once_and_an_edited_note_stays(database: Database) -> None:
    study = ended(database)
    before = database.optuna_storage().get_study_system_attrs(study.search_id)
    publish(database, study)
    assert database.optuna_storage().get_study_system_attrs(study.search_id) == before
    dashboard.save_note(database.optuna_study(study.name), "mine")
    publish(database, studies.find(database, study.name))
    assert note(database, study.name) == "mine"


def test_a_note_that_becomes_shorter_leaves_nothing_of_the_longer_one(database: Database) -> None:
    study = create(database)
    for body in ("long " * 2_000, "short"):
        with database.transaction() as connection:
            shown.write_notes(connection, study.search_id, {None: body})
        assert note(database, study.name) == body


def test_the_model_is_an_artifact_that_the_dashboard_serves(database: Database) -> None:
    study = ended(database)
    assert study.final_id is not None
    assert study.result is not None
    app = make_app(database, open_store("database", database), writable=False)

    def get(path: str) -> tuple[str, bytes]:
        answer: dict[str, Any] = {}

        def start(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            answer.update(status=status, headers=dict(headers))

        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "wsgi.url_scheme": "http"}
        body = b"".join(app(environ, start))
        return answer["status"], body

    files = artifacts(database, study.final_id)
    assert set(files) == {"trivial.safetensors", "trivial.json"}
    status, weights = get(f"/artifacts/{study.final_id}/{files['trivial.safetensors']}")
    assert status == "200 OK"
    assert set(load(weights)) == {"layers.0.weight", "layers.0.bias"}
    _, manifest = get(f"/artifacts/{study.final_id}/{files['trivial.json']}")
    assert json.loads(manifest) == study.result["model"]
    # The networks of each trial of the final stage, too.
    [trial] = database.optuna_study(study.final_name).get_trials()
    stored = trial.user_attrs["model"]["artifact"]
    assert set(stored) <= set("0123456789abcdef-")


def test_its_plots_are_pictures_and_one_of_the_same_name_takes_its_place(
    database: Database,
) -> None:
    pytest.importorskip("matplotlib")
    study = ended(database)
    assert study.final_id is not None
    attach_plots(database, study)
    before = artifacts(database, study.final_id)
    assert {"trivial-finalists.png", "trivial-learning-curves.png"} < set(before)
    store = open_store("database", database)
    with store.open_reader(before["trivial-finalists.png"]) as reader:
        assert reader.read(8) == b"\x89PNG\r\n\x1a\n"
    attach(database, study, filename="trivial-finalists.png", mimetype="image/png", data=b"new")
    assert artifacts(database, study.final_id) == before
    with store.open_reader(before["trivial-finalists.png"]) as reader:
        assert reader.read() == b"new"


@pytest.mark.parametrize("version", ['"mine"', "null", "not JSON", "7"])
def test_a_note_with_any_version_but_ours_stays(database: Database, version: str) -> None:
    study = create(database, trials=2)
    publish(database, study)
    before = note(database, "trivial")
    with database.transaction() as connection:
        connection.execute(
            text("""
                UPDATE public.study_system_attributes SET value_json = :version
                WHERE key = 'dashboard:note_ver'
            """),
            {"version": version},
        )
    train_by_hand(database, study, take(database), scores=[1.0, 2.0])
    publish(database, study)
    with database.transaction() as connection:
        found = connection.scalar(
            text("""
                SELECT value_json FROM public.study_system_attributes
                WHERE key = 'dashboard:note_ver'
            """)
        )
    assert found == version
    assert before
