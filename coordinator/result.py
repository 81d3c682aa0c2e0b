"""What the final stage found: every finalist on fresh seeds, the winner, and its best agent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from safetensors import SafetensorError
from safetensors.numpy import load, save

from coordinator.final import curve_area, search_finalists
from coordinator.retrain import ModelLostError, without_replaced
from trialfleet.artifacts import blobs
from trialfleet.artifacts.blobs import Stored
from trialfleet.artifacts.stores import open_store
from trialfleet.errors import BlobDamagedError
from trialfleet.search import space
from trialfleet.store import metrics
from trialfleet.store.artifacts import owned
from trialfleet.store.metrics import Curve
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study

_RESAMPLES = 10_000


class StillRunningError(Exception):
    """Another coordinator has just enqueued the replacement of a trial whose model is lost."""


@dataclass(frozen=True, kw_only=True)
class Agent:
    """One agent of the final stage."""

    score: float  # mean return over the final episodes
    area: float  # of its evaluation curve
    seed: int
    trial: FrozenTrial  # of NAME.final
    index: int  # its place among the trial's agents


def bootstrap_interval(scores: list[float], *, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over seeds (Efron and Tibshirani, 1993, ch. 13).

    The resampling is seeded, so the same scores give the same interval.
    """
    values = np.asarray(scores)
    draws = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    means = values[draws].mean(axis=1)  # [resamples]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def conclude(database: Database, study: Study) -> dict[str, Any] | None:
    """The outcome of a final stage whose trials have all ended, as JSON, with the model stored.

    A finalist one of whose trials failed cannot win; its reasons are kept.

    Returns:
        None if no finalist is left.

    Raises:
        ModelLostError: The winner's model is missing or damaged; nothing was stored.
        StillRunningError: Not all have ended, after all.
    """
    trials = without_replaced(database.optuna_study(study.final_name).get_trials(deepcopy=False))
    if not all(trial.state.is_finished() for trial in trials):
        raise StillRunningError
    assert study.final_id is not None
    agent_curves = metrics.read(database, study.final_id, "return")
    rows: list[tuple[dict[str, Any], list[Agent]]] = []
    for finalist in search_finalists(database, study):
        own = [trial for trial in trials if trial.user_attrs["finalist"] == finalist.rank]
        failures = [
            trial.user_attrs.get("reason", "no reason recorded")
            for trial in own
            if trial.state != TrialState.COMPLETE
        ]
        agents = [agent for trial in own for agent in _agents(trial, agent_curves)]
        row: dict[str, Any] = {
            "rank": finalist.rank,
            "trial": finalist.number,
            "search_score": finalist.score,
            "params": space.decode(finalist.trial.params, study.spec.agent),
            "failures": failures,
        }
        if not failures:
            scores = [agent.score for agent in agents]
            low, high = bootstrap_interval(scores)
            row |= {
                "scores": scores,
                "seeds": [agent.seed for agent in agents],
                "mean": float(np.mean(scores)),
                "interval": [low, high],
                "gap": finalist.score - float(np.mean(scores)),
                "area": float(np.mean([agent.area for agent in agents])),
            }
        rows.append((row, agents))
    standing = [(row, agents) for row, agents in rows if not row["failures"]]
    if not standing:
        return None
    winner, agents = max(standing, key=lambda item: (item[0]["mean"], item[0]["area"]))
    best = max(agents, key=lambda agent: (agent.score, agent.area, -agent.seed))
    return {
        "winner": winner["rank"],
        "finalists": [row for row, _ in rows],
        "model": _store_best(database, study, winner, best),
    }


def _agents(trial: FrozenTrial, agent_curves: dict[int, Curve]) -> list[Agent]:
    if trial.state != TrialState.COMPLETE:
        return []
    curve = agent_curves.get(trial.number, [])
    return [
        Agent(
            score=score,
            area=curve_area({step: returns[index] for step, returns in curve}),
            seed=trial.user_attrs["seeds"][index],
            trial=trial,
            index=index,
        )
        for index, score in enumerate(trial.user_attrs["scores"])
    ]


def _store_best(
    database: Database, study: Study, winner: dict[str, Any], best: Agent
) -> dict[str, Any]:
    """Cut the best agent out of its trial's stacked networks; its manifest."""
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
        label=f"{study.name}-best-{study.search_id}{study.edition}",
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
        "configuration_mean": winner["mean"],
        "configuration_scores": winner["scores"],
        "configuration_seeds": winner["seeds"],
        "versions": best.trial.user_attrs["versions"],
        "device": best.trial.user_attrs["device"],
        "trained_by": best.trial.user_attrs.get("trained_by", []),
        "digest": study.digest,
    }
