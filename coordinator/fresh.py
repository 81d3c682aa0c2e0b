"""Every finalist on fresh seeds, as numbers: what the winner is chosen by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from coordinator.finalists import Finalist
from trialfleet.search import space
from trialfleet.store.metrics import Curve
from trialfleet.study.measures import SCORE
from trialfleet.study.spec import Spec
from trialfleet.study.values import (
    Measures,
    center,
    constraint_values,
    curve_area,
    objective_values,
    pooled,
)

_RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Agent:
    """One agent of the final stage."""

    score: float  # mean return over the final episodes
    area: float  # of its evaluation curve
    seed: int
    trial: FrozenTrial  # of NAME.final
    index: int  # its place among the trial's agents


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """A finalist with its agents."""

    row: dict[str, Any]  # JSON; without "scores" and what follows from them if a trial failed
    agents: list[Agent]

    @property
    def stands(self) -> bool:
        """Whether none of its trials failed."""
        return not self.row["failures"]


def bootstrap_interval(
    scores: list[float], *, level: float = 0.95, over_seeds: str = "mean"
) -> tuple[float, float]:
    """Percentile bootstrap interval over seeds (Efron and Tibshirani, 1993, ch. 13).

    The resampling is seeded, so the same scores give the same interval.

    Args:
        scores: A value of each agent.
        level: Of confidence.
        over_seeds: The statistic: mean, median or iqm. There is no such interval of the worst.
    """
    values = np.asarray(scores, dtype=float)
    draws = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    found = center(values[draws], over_seeds)  # [resamples]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def measures_of(trial: FrozenTrial) -> Measures:
    """What a COMPLETE trial measured."""
    return {"score": trial.user_attrs["scores"], **trial.user_attrs.get("measures", {})}


def fresh(
    finalist: Finalist, trials: list[FrozenTrial], curves: dict[int, Curve], spec: Spec
) -> Fresh:
    """A finalist's row.

    Args:
        finalist: Of the search.
        trials: Its own of the final stage, without those that another has replaced.
        curves: Of the final stage's returns, by trial number.
        spec: The study file.
    """
    failures = [
        trial.user_attrs.get("reason", "no reason recorded")
        for trial in trials
        if trial.state != TrialState.COMPLETE
    ]
    agents = [agent for trial in trials for agent in agents_of(trial, curves)]
    search_score = _search_score(finalist, spec)
    row: dict[str, Any] = {
        "rank": finalist.rank,
        "trial": finalist.number,
        "search_score": search_score,
        "search_values": finalist.values,
        "params": space.decode(finalist.trial.params, spec.agent),
        "failures": failures,
    }
    if not failures:
        scores = [agent.score for agent in agents]
        mean = float(np.mean(scores))
        row |= {
            "scores": scores,
            "seeds": [agent.seed for agent in agents],
            "mean": mean,
            "interval": [*bootstrap_interval(scores)],
            "gap": search_score - mean,
            "area": float(np.mean([agent.area for agent in agents])),
            **_judged_by(pooled([measures_of(trial) for trial in trials]), spec),
        }
    return Fresh(row=row, agents=agents)


def _judged_by(measures: Measures, spec: Spec) -> dict[str, Any]:
    """Each objective's value, its 95% interval where there is one, and the constraints."""
    objectives, over_seeds = spec.search.objectives, spec.search.over_seeds
    intervals: list[list[float] | None] = []
    for objective in objectives:
        found = measures.get(objective.measure.name)
        if objective.measure.kind.of_agents and isinstance(found, list) and over_seeds != "worst":
            intervals.append([*bootstrap_interval(found, over_seeds=over_seeds)])
        else:
            intervals.append(None)
    found = constraint_values(spec.constraints, measures, over_seeds)
    bounded = [*zip(spec.constraints, found, strict=True)]
    return {
        "values": objective_values(objectives, measures, over_seeds),
        "intervals": intervals,
        "constraints": {each.label: value for each, value in bounded},
        # As `excess` of a trial: zero where all constraints are met.
        "excess": sum(max(each.excess(value), 0.0) for each, value in bounded),
    }


def _search_score(finalist: Finalist, spec: Spec) -> float:
    """Its mean return over the search's seeds; of a trial without any, its first value."""
    mean = spec.search.objectives == (SCORE,) and spec.search.over_seeds == "mean"
    scores = finalist.trial.user_attrs.get("scores")
    return finalist.values[0] if mean or not scores else float(np.mean(scores))


def agents_of(trial: FrozenTrial, curves: dict[int, Curve]) -> list[Agent]:
    """The agents of one trial of the final stage; none of one that failed."""
    if trial.state != TrialState.COMPLETE:
        return []
    curve = curves.get(trial.number, [])
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
