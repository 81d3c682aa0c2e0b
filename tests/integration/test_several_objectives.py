"""Several objectives: the front is retrained, shown and saved, and nothing stumbles over it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from rich.console import Console

from coordinator import audit
from coordinator.answer import row_of_winner
from coordinator.dashboard.notes import finalist_notes, study_note
from coordinator.dashboard.publish import publish
from coordinator.monitoring.notices import Notices
from coordinator.report import data, export
from coordinator.report.comparison import compare_studies
from coordinator.result import conclude
from coordinator.status import as_dict, snapshot
from coordinator.tensorboard.follow import Follower
from coordinator.tensorboard.runs import Choice
from coordinator.watch import step
from tests.support.inprocess import run_here
from tests.support.invariants import check_invariants
from tests.support.studies import create, send, store_model, take_all, train_by_hand
from tests.unit.test_display import drawn
from trialfleet.cli.agent.model import load_model
from trialfleet.cli.agent.save import of_trial, save_model
from trialfleet.cli.replay import replay_trial
from trialfleet.cli.show.comparison import table
from trialfleet.cli.show.display import summary
from trialfleet.cli.show.outcome import result_report
from trialfleet.cli.show.picture import picture
from trialfleet.errors import UsageError
from trialfleet.seeds import search_seeds
from trialfleet.store import leases, studies
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study

Open = Callable[[], Database]
OBJECTIVES = '["score", "steps_to_10", "parameters"]'


def test_a_study_of_three_objectives_from_the_file_to_the_report(
    open_database: Open, tmp_path: Path
) -> None:
    database = open_database()
    told: list[dict[str, Any]] = []
    notices = Notices(database, lambda notice: told.append(dict(notice)))
    create(database, trials=5, train_steps=48, top=3, final_seeds=3, objectives=OBJECTIVES)
    notices.begin("trivial")
    study = run_here(open_database)
    notices.look(study)
    check_invariants(database, study.name)
    search = database.optuna_study("trivial")
    assert search.directions == [
        StudyDirection.MAXIMIZE,
        StudyDirection.MINIMIZE,
        StudyDirection.MINIMIZE,
    ]
    assert search.metric_names == ["score", "steps_to_10", "parameters"]
    assert study.result is not None
    rows = study.result["finalists"]
    known = {trial.number for trial in search.best_trials}
    assert {row["trial"] for row in rows} <= known
    assert len(rows) <= 3
    for row in rows:
        assert row["values"][0] == row["mean"]
        assert row["values"][2] == 58.0
    assert study.result["front"][0] == study.result["winner"]

    # Everything that shows a study shows this one.
    report = drawn(result_report(study, audit.read(database, study)), width=220)
    assert "Pareto front on fresh seeds" in report
    assert "parameters, fresh" in report
    assert "the winner is its best by score:max" in report
    shot = snapshot(database, study)
    assert f"winner: trial {row_of_winner(study.result)['trial']}, score " in summary(shot)
    drawn(picture(shot))
    assert as_dict(shot)["objectives"] == ["score:max", "steps_to_10:min", "parameters:min"]
    publish(database, study)
    assert "Pareto front" in study_note(study, artifacts={})
    assert len(finalist_notes(study)) == len(rows)
    assert [each["event"] for each in told][-1] == "end"
    assert "best" in [each["event"] for each in told]
    follower = Follower(database, study.name, tmp_path / "tb", Choice(every=True))
    follower.look()
    follower.close()
    read = data.read(database, study)
    head, *lines = export.as_csv(read).splitlines()
    assert "value.0,value.1,value.2" in head
    assert len(lines) == len(read.search) + len(read.final)
    assert json.loads(export.as_json(read))["directions"] == ["maximize", "minimize", "minimize"]
    pytest.importorskip("jinja2")
    from coordinator.report.page.render import page

    shown = page(read)
    assert "plot-pareto-front" in shown
    assert "plot-hypervolume-history" in shown
    assert 'id="front"' in shown
    for number, final in ((4, False), (0, True)):
        console = Console(quiet=True)
        assert replay_trial(database, "trivial", number, final=final, device=None, console=console)


def by_hand(database: Database, study: Study, claim: Claim, *values: float) -> None:
    """Complete a trial of the score and the parameters, of agents that are all alike."""
    optuna_name = study.name if claim.stage == "search" else study.final_name
    trial = database.optuna_study(optuna_name).get_trials()[claim.number]
    seeds = trial.user_attrs.get("seeds") or search_seeds(study.spec.seed, claim.number, 2)
    send(database, claim, study.spec.task.train_steps, [values[0]] * len(seeds))
    more: dict[str, Any] = {}
    if claim.stage == "final":
        more["model"] = store_model(database, study, claim, len(seeds))
    attributes = {
        "scores": [values[0]] * len(seeds),
        "seeds": seeds,
        "measures": {"parameters": values[1]},
        "versions": {},
        "device": "cpu",
        **more,
    }
    assert leases.finish(database, claim, state="COMPLETE", values=values, attributes=attributes)


def with_a_front(database: Database, name: str = "trivial") -> Study:
    """A study that is done; its finalists are trials 1, 2 and 0 of the search.

    On fresh seeds trial 1 is dominated by trial 2.
    """
    study = create(
        database, name=name, trials=4, top=3, final_seeds=2, objectives='["score", "parameters"]'
    )
    points = [(100.0, 10.0), (500.0, 90.0), (300.0, 40.0), (290.0, 41.0)]
    for claim, point in zip(take_all(database, name), points, strict=True):
        storage = database.optuna_storage(claim.fence)
        for knob, low, high in (("learning_rate", 1e-4, 1e-2), ("gamma", 0.9, 0.999)):
            distribution = FloatDistribution(low, high, log=knob == "learning_rate")
            value = low + (high - low) * (claim.number + 1) / 10
            storage.set_trial_param(claim.trial_id, knob, value, distribution)
        by_hand(database, study, claim, *point)
    study = step(database, name)
    assert study.stage == "final"
    fresh = {0: (200.0, 90.0), 1: (310.0, 40.0), 2: (80.0, 10.0)}  # by rank
    final = database.optuna_study(study.final_name).get_trials()
    for claim in take_all(database, name):
        rank = final[claim.number].user_attrs["finalist"]
        by_hand(database, study, claim, *fresh[rank])
    return step(database, name)


def test_the_front_on_fresh_seeds_has_a_saved_agent_of_each(
    database: Database, tmp_path: Path
) -> None:
    study = with_a_front(database)
    assert study.stage == "done"
    assert study.result is not None
    assert [row["trial"] for row in study.result["finalists"]] == [1, 2, 0]
    assert (study.result["winner"], study.result["front"]) == (1, [1, 2])
    assert set(study.result["models"]) == {"2", "0"}
    check_invariants(database, study.name)
    for number, name in ((2, "trivial-trial-2"), (0, "trivial-trial-0")):
        path = save_model(database, of_trial(study, number), tmp_path)
        assert path.name == f"{name}.safetensors"
        arrays, manifest = load_model(path)
        assert manifest["search_trial"] == number
        assert (
            manifest["configuration_values"]
            == study.result["finalists"][[1, 2, 0].index(number)]["values"]
        )
        # Each agent's numbers are those of its own final trial.
        assert arrays["layers.0.bias"][0] // 100 == manifest["final_trial"]
    with pytest.raises(UsageError, match=r"trial 1 of study 'trivial' has no saved agent.* 0, 2"):
        of_trial(study, 1)


def test_two_such_studies_are_compared_by_their_mean_scores(database: Database) -> None:
    one, two = with_a_front(database, "one"), with_a_front(database, "two")
    comparison = compare_studies(one, two)
    assert comparison.pairs[0].difference.difference == 0.0
    drawn(table(comparison))
    other = create(database, name="other", trials=1, top=1, final_seeds=2)
    (claim,) = take_all(database, "other")
    train_by_hand(database, other, claim, scores=[1.0, 1.0])
    step(database, "other")
    other = studies.find(database, "other")
    (claim,) = take_all(database, "other")
    train_by_hand(database, other, claim, scores=[5.0, 5.0])
    result = conclude(database, other)
    assert result is not None
    assert "front" not in result
    ended = step(database, "other")
    comparison = compare_studies(one, ended)
    (pair,) = comparison.pairs
    assert pair.difference.difference == pytest.approx(305.0)
    assert pair.verdict.startswith("one and other cannot be told apart")  # two seeds each
    assert any(line.startswith("search.objectives: ") for line in comparison.unlike)


def test_a_front_that_is_smaller_than_asked_for_is_said_to_be(
    open_database: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    objectives = '["score", "parameters"]'  # networks of one size: the best score is the front
    create(open_database(), trials=3, train_steps=48, top=3, final_seeds=2, objectives=objectives)
    run_here(open_database)
    said = capsys.readouterr().out
    assert "fewer finalists than final.top: the search's Pareto front has no more" in said
