"""A study as reports read it, made up: no database, no training, and names that mean harm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from coordinator.certainty import certainty
from coordinator.report.data import StudyData
from tests.support.studies import trivial_spec
from trialfleet.store.leases import Stage
from trialfleet.store.studies import Study
from trialfleet.store.trials.attempts import TrialAttempt
from trialfleet.study.returns import Returns

SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(2)>'
BEGIN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STEPS = [250, 500, 750, 1_000]
SEEDS = [11, 12]
RETURNS = Returns(low=0, high=500)
PARAMS: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "gamma": FloatDistribution(0.9, 0.999),
    IMAGE: CategoricalDistribution([SCRIPT, "plain $x$", "other"]),
    "width": IntDistribution(1, 9),
}
PRUNED_BY = {
    "rule": "median",
    "step": 500,
    "value": 12.3,
    "threshold": 40.1,
    "text": f"median at step 500: 12.3 < 40.1 {IMAGE}",
}


def told(
    *,
    trials: int = 24,
    name: str = "told",
    stage: Stage = "done",
    objectives: int = 1,
    workers: int = 3,
    lift: float = 0.0,
    race: bool = False,
) -> StudyData:
    """A study: of every eight trials one failed, two were pruned, and one was lost before.

    Args:
        trials: Of the search.
        name: The study's.
        stage: Where it stands; "done" has finalists.
        objectives: How many values a trial has.
        workers: How many took part.
        lift: Added to every finalist's fresh scores.
        race: Whether the final stage was a race, in which the second one left.
    """
    spec = trivial_spec(name="told", trials=24, train_steps=1_000, eval_every=250, race=race)
    search = [_trial(number, objectives) for number in range(trials)]
    attempts = [each for trial in search for each in _attempts(1, trial, workers)]
    final: list[FrozenTrial] = []
    result = None
    if stage == "done":
        complete = [trial for trial in search if trial.state == TrialState.COMPLETE]
        complete.sort(key=lambda trial: -trial.values[0])
        rows = [_finalist(rank, trial, lift) for rank, trial in enumerate(complete[:3])]
        final = [_final_trial(row) for row in rows]
        attempts += [each for trial in final for each in _attempts(2, trial, workers)]
        winner = max(rows, key=lambda row: row["mean"])
        result = {"winner": winner["rank"], "finalists": rows, "model": _model(winner)}
        if race:
            result |= _raced(rows, winner)
    study = Study(
        name=name,
        search_id=1,
        final_id=2 if final else None,
        stage=stage,
        stored=spec.to_json(),
        digest=spec.digest,
        version="0.2.0",
        compatibility=2,
        budget=24,
        max_failures=10,
        artifacts="database",
        result=result,
        reason=f"no more {SCRIPT}" if stage == "failed" else None,
        seconds=321.0,
    )
    return StudyData(
        study=study,
        maximize=(True, False, True)[:objectives],
        search=search,
        final=final,
        returns={trial.number: _curve(trial.intermediate_values) for trial in search},
        final_returns={trial.number: _curve(trial.intermediate_values) for trial in final},
        attempts=attempts,
        read_at=BEGIN + timedelta(seconds=321),
    )


def _trial(number: int, objectives: int) -> FrozenTrial:
    rng = np.random.default_rng(number)
    state = {3: TrialState.FAIL, 4: TrialState.PRUNED, 5: TrialState.PRUNED}.get(
        number % 8, TrialState.COMPLETE
    )
    score = float(100 + 300 * rng.random())
    attributes: dict[str, Any] = {
        "seeds": SEEDS,
        "worker": SCRIPT,
        "host": f"host {IMAGE}",
        "device": "cpu",
        "hardware": "x86_64",
        "versions": {"trialfleet": "0.2.0", "torch": "2.13.0", "python": "3.11.9"},
        "attempts": 2 if number % 8 == 6 else 1,
    }
    steps = STEPS if state == TrialState.COMPLETE else STEPS[:2]
    if state == TrialState.COMPLETE:
        attributes |= {"scores": [score - 20.0, score + 20.0]}
    elif state == TrialState.PRUNED:
        attributes |= {"pruned_by": PRUNED_BY}
        if number % 8 == 5:
            attributes |= {"audit": {"score": 50.0, "scores": [40.0, 60.0]}}
    else:
        attributes |= {"reason": f"no such thing: {SCRIPT}", "traceback": f"Traceback {IMAGE}"}
    params = {
        "learning_rate": float(10 ** (-4 + 2 * rng.random())),
        "gamma": float(0.9 + 0.099 * rng.random()),
        IMAGE: [SCRIPT, "plain $x$", "other"][number % 3],
        "width": int(rng.integers(1, 10)),
    }
    return FrozenTrial(
        number=number,
        state=state,
        value=None,
        values=None if state == TrialState.FAIL else [score, score / 2, -score][:objectives],
        datetime_start=_at(10 * number).replace(tzinfo=None),
        datetime_complete=_at(10 * number + 9).replace(tzinfo=None),
        params=params,
        distributions=dict(PARAMS),
        user_attrs=attributes,
        system_attrs={},
        intermediate_values={step: score * step / 1_000 for step in steps},
        trial_id=1_000 + number,
    )


def _finalist(rank: int, trial: FrozenTrial, lift: float) -> dict[str, Any]:
    rng = np.random.default_rng(rank)
    scores = [float(score) + lift for score in 250 + 40 * rng.standard_normal(6)]
    mean = float(np.mean(scores))
    return {
        "rank": rank,
        "trial": trial.number,
        "search_score": trial.values[0],
        "params": {**trial.params, "batch_size": 4},
        "failures": [],
        "scores": scores,
        "seeds": [101 + 2 * index for index in range(6)],
        "mean": mean,
        **certainty(scores, RETURNS, together=3).as_row(),
        "gap": trial.values[0] - mean,
        "area": mean / 2,
    }


def _final_trial(row: dict[str, Any]) -> FrozenTrial:
    return FrozenTrial(
        number=row["rank"],
        state=TrialState.COMPLETE,
        value=row["mean"],
        datetime_start=_at(250 + 10 * row["rank"]).replace(tzinfo=None),
        datetime_complete=_at(259 + 10 * row["rank"]).replace(tzinfo=None),
        params={},
        distributions={},
        user_attrs={"finalist": row["rank"], "scores": row["scores"], "seeds": row["seeds"]},
        system_attrs={},
        intermediate_values={step: row["mean"] * step / 1_000 for step in STEPS},
        trial_id=2_000 + row["rank"],
    )


def _raced(rows: list[dict[str, Any]], winner: dict[str, Any]) -> dict[str, Any]:
    """What a race adds to a result."""
    for row in rows:
        won = row is winner
        row.update(
            estimate=row["search_score"] - 5.0,
            verdict="wins" if won else "out",
            block=2,
            why="the only one left" if won else f"worse than trial {winner['trial']} by more",
        )
    scores = [400.0] * 9 + [100.0]
    return {
        "race": {
            "blocks": 2,
            "block_seeds": 3,
            "most_blocks": 4,
            "error": 0.2,
            "seeds": 18,
            "most_seeds": 36,
            "equivalent": [],
        },
        "confirmation": {
            "rank": winner["rank"],
            "trial": winner["trial"],
            "scores": scores,
            "seeds": [203 + 4 * index for index in range(10)],
            "mean": 370.0,
            "iqm": 400.0,
            **certainty(scores, RETURNS).as_row(),
            "search_score": winner["search_score"],
            "gap": winner["search_score"] - 370.0,
            "area": 100.0,
            "solved": {
                "threshold": 390.0,
                "seeds": 9,
                "of": 10,
                "at_least": 0.6058,
                "level": 0.95,
            },
        },
    }


def _model(winner: dict[str, Any]) -> dict[str, Any]:
    return {
        "study": "told",
        "search_trial": winner["trial"],
        "final_trial": winner["rank"],
        "seed": winner["seeds"][0],
        "score": winner["scores"][0],
        "episodes": 20,
        "params": winner["params"],
        "configuration_mean": winner["mean"],
        "configuration_scores": winner["scores"],
        "configuration_seeds": winner["seeds"],
        "versions": {"trialfleet": "0.2.0", "torch": "2.13.0", "python": "3.11.9"},
        "device": "cpu",
        "trained_by": [{"device": "cpu", "hardware": "x86_64"}],
        "sha256": "ab" * 32,
        "size": 1_234,
    }


def _curve(points: dict[int, float]) -> list[tuple[int, list[float]]]:
    return [(step, [value * 0.9, value * 1.1]) for step, value in sorted(points.items())]


def _attempts(study_id: int, trial: FrozenTrial, workers: int) -> list[TrialAttempt]:
    begin = 10 * trial.number + (250 if study_id == 2 else 0)
    lost = study_id == 1 and trial.number % 8 == 6
    worker = f"worker-{trial.number % workers} {SCRIPT}"
    found = [
        TrialAttempt(
            study_id=study_id,
            number=trial.number,
            worker=worker,
            started=_at(begin - 4.0),
            ended=_at(begin - 1.0),
            outcome="lost",
            step=500,
        )
    ]
    return (found if lost else []) + [
        TrialAttempt(
            study_id=study_id,
            number=trial.number,
            worker=worker,
            started=_at(begin),
            ended=_at(begin + 9.0),
            outcome="finished",
            step=max(trial.intermediate_values),
        )
    ]


def _at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)
