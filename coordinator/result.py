"""What the final stage found: every finalist on fresh seeds, the winner, and its best agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial
from safetensors import SafetensorError
from safetensors.numpy import load, save

from coordinator.final import search_finalists
from coordinator.fresh import Fresh, fresh
from coordinator.race import outcome, rounds
from coordinator.ranking import front, losses
from coordinator.retrain import ModelLostError, without_replaced
from trialfleet.artifacts import blobs
from trialfleet.artifacts.blobs import Stored
from trialfleet.artifacts.stores import open_store
from trialfleet.errors import BlobDamagedError
from trialfleet.store import metrics
from trialfleet.store.artifacts import owned
from trialfleet.store.metrics import Curve
from trialfleet.store.steering import decisions
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study


class StillRunningError(Exception):
    """Another coordinator has just enqueued the replacement of a trial whose model is lost."""


def conclude(database: Database, study: Study) -> dict[str, Any] | None:
    """The outcome of a final stage whose trials have all ended, as JSON, with the model stored.

    A finalist one of whose trials failed cannot win; its reasons are kept. One that does not meet
    the constraints wins only if none does, and is the closest. With several objectives, the front
    is what no other finalist dominates, each with its model, and the winner its best by the first
    objective.

    After a race, the winner is the one that it was decided for, and what is said of it is what it
    came to on the seeds that confirmed it (`confirmation`); `finalists` has the race's figures.

    Returns:
        None if no finalist is left.

    Raises:
        ModelLostError: The model of the winner, or of one on the front, is missing or damaged; the
            outcome is not known yet.
        StillRunningError: Not all have ended, after all.
    """
    assert study.final_id is not None
    trials = without_replaced(database.trials(study.final_id))
    if not all(trial.state.is_finished() for trial in trials):
        raise StillRunningError
    curves = metrics.read(database, study.final_id, "return")
    if study.spec.races:
        return _race_result(database, study, trials, curves)
    finalists = search_finalists(database, study)
    found = [
        fresh(
            finalist,
            [trial for trial in trials if trial.user_attrs["finalist"] == finalist.rank],
            curves,
            study.spec,
            finalists=len(finalists),
        )
        for finalist in finalists
    ]
    standing = [each for each in found if each.stands]
    if not standing:
        return None
    maximize = [objective.maximize for objective in study.spec.search.objectives]
    winner = min(
        standing,
        key=lambda each: (
            each.row["excess"],
            losses(each.row["values"], maximize),
            -each.row["area"],
        ),
    )
    result = {
        "winner": winner.row["rank"],
        "objectives": [*map(str, study.spec.search.objectives)],
        "over_seeds": study.spec.search.over_seeds,
        "feasible": winner.row["excess"] == 0,
        "finalists": [each.row for each in found],
        "model": _store_best(database, study, winner),
    }
    if len(maximize) > 1:
        best = _front(standing, winner, maximize)
        result["front"] = [each.row["rank"] for each in best]
        result["models"] = {
            str(each.row["trial"]): _store_best(
                database, study, each, suffix=f"-trial-{each.row['trial']}"
            )
            for each in best
        }
    return result


def _race_result(
    database: Database, study: Study, trials: list[FrozenTrial], curves: dict[int, Curve]
) -> dict[str, Any] | None:
    """The same of a race that is over; its trials have all ended."""
    assert study.final_id is not None
    with database.transaction() as connection:
        decided = decisions.read(connection, study.final_id)
    spec = study.spec
    given = rounds.rules(spec, sum(each.block == 0 for each in decided))
    if rounds.undecided(decided, trials, given):
        raise StillRunningError
    rank = rounds.winner(decided)
    if rank is None:
        return None
    search = database.trials(study.search_id)
    found = outcome.finalists(decided, search, trials, curves, spec)
    winner, confirmation = found[rank], None
    if spec.final.confirm:
        winner, confirmation = outcome.confirmed(
            winner, rounds.confirming(rank, trials), curves, spec
        )
    return {
        "winner": rank,
        "objectives": [*map(str, spec.search.objectives)],
        "over_seeds": spec.search.over_seeds,
        "feasible": True,
        "confirmation": confirmation,
        "finalists": [each.row for each in found],
        "race": outcome.summary(decided, found, spec),
        "model": _store_best(database, study, winner),
    }


def _front(standing: list[Fresh], winner: Fresh, maximize: Sequence[bool]) -> list[Fresh]:
    """The finalists that no other one dominates on fresh seeds, the winner first.

    Where none meets the constraints, that is the winner, which came closest.
    """
    feasible = [each for each in standing if each.row["excess"] == 0]
    if not feasible:
        return [winner]
    points = [losses(each.row["values"], maximize) for each in feasible]
    order = sorted(front(points), key=lambda index: (feasible[index] is not winner, points[index]))
    return [feasible[index] for index in order]


def _store_best(
    database: Database, study: Study, finalist: Fresh, *, suffix: str = ""
) -> dict[str, Any]:
    """Cut a finalist's best agent out of its trial's stacked networks; its manifest."""
    winner = finalist.row
    best = max(finalist.agents, key=lambda agent: (agent.score, agent.area, -agent.seed))
    store = open_store(study.artifacts, database)
    try:
        arrays = load(blobs.get(store, Stored(**best.trial.user_attrs["model"])))
    except BlobDamagedError as exc:
        raise ModelLostError(best.trial, f"{exc}") from exc
    except SafetensorError as exc:
        raise ModelLostError(best.trial, f"it is no model: {exc}") from exc
    own = {name: np.ascontiguousarray(array[best.index]) for name, array in arrays.items()}
    stored = owned.put(
        database,
        store,
        study,
        kind="best",
        label=f"{study.name}-best-{study.search_id}{study.edition}{suffix}",
        data=save(own),
    )
    return {
        "study": study.name,
        **asdict(stored),
        "task": study.spec.task.model_dump(mode="json"),
        "params": winner["params"],
        "search_trial": winner["trial"],
        "final_trial": best.trial.number,
        "seed": best.seed,
        "score": best.score,
        "episodes": study.spec.final.episodes,
        "objectives": [*map(str, study.spec.search.objectives)],
        "configuration_values": winner["values"],
        "configuration_mean": winner["mean"],
        "configuration_scores": winner["scores"],
        "configuration_seeds": winner["seeds"],
        "versions": best.trial.user_attrs["versions"],
        "device": best.trial.user_attrs["device"],
        "trained_by": best.trial.user_attrs.get("trained_by", []),
        "digest": study.digest,
    }
