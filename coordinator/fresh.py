"""Every finalist on fresh seeds, as numbers: what the winner is chosen by."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from coordinator.certainty import LEVEL, certainty
from coordinator.finalists import Finalist
from coordinator.intervals import Interval, mean_interval, median_interval
from trialfleet.search import space
from trialfleet.store.metrics import Curve
from trialfleet.study.measures import SCORE, Measure
from trialfleet.study.returns import Returns
from trialfleet.study.spec import Spec
from trialfleet.study.values import (
    NEVER,
    Measures,
    constraint_values,
    curve_area,
    gap,
    mean,
    objective_values,
    pooled,
)


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


def measures_of(trial: FrozenTrial) -> Measures:
    """What a COMPLETE trial measured."""
    return {"score": trial.user_attrs["scores"], **trial.user_attrs.get("measures", {})}


def fresh(
    finalist: Finalist,
    trials: list[FrozenTrial],
    curves: dict[int, Curve],
    spec: Spec,
    *,
    finalists: int,
) -> Fresh:
    """A finalist's row.

    Args:
        finalist: Of the search.
        trials: Its own of the final stage, without those that another has replaced.
        curves: Of the final stage's returns, by trial number.
        spec: The study file.
        finalists: How many there are. The winner is chosen among them by these scores, so their
            intervals hold all at once; and in a race, scores decide how many seeds there are.
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
        found_mean = mean(scores)
        row |= {
            "scores": scores,
            "seeds": [agent.seed for agent in agents],
            "mean": found_mean,
            **certainty(scores, spec.returns, together=finalists, sequential=spec.races).as_row(),
            "gap": gap(search_score, found_mean),
            "area": mean([agent.area for agent in agents]),
            **_judged_by(pooled([measures_of(trial) for trial in trials]), spec, finalists),
        }
    return Fresh(row=row, agents=agents)


def _judged_by(measures: Measures, spec: Spec, finalists: int) -> dict[str, Any]:
    """Each objective's value, its 95% interval where there is one, and the constraints."""
    objectives, over_seeds = spec.search.objectives, spec.search.over_seeds
    intervals = [_interval(each.measure, measures, spec, finalists) for each in objectives]
    found = constraint_values(spec.constraints, measures, over_seeds)
    bounded = [*zip(spec.constraints, found, strict=True)]
    return {
        "values": objective_values(objectives, measures, over_seeds),
        "intervals": [each and [each.low, each.high] for each in intervals],
        "interval_methods": [each and each.method for each in intervals],
        "constraints": {each.label: value for each, value in bounded},
        # As `excess` of a trial: zero where all constraints are met.
        "excess": min(
            sum(max(each.excess(value), 0.0) for each, value in bounded), sys.float_info.max
        ),
    }


def _interval(measure: Measure, measures: Measures, spec: Spec, finalists: int) -> Interval | None:
    """The interval of a measure over seeds; none of the worst seed, nor of a trimmed mean."""
    found = measures.get(measure.name)
    if not measure.kind.of_agents or not isinstance(found, list):
        return None
    level = 1 - (1 - LEVEL) / finalists
    if spec.search.over_seeds == "median":
        return median_interval(found, level=level)
    if spec.search.over_seeds != "mean":
        return None
    return mean_interval(found, _bounds(measure, spec), level=level, sequential=spec.races)


def _bounds(measure: Measure, spec: Spec) -> Returns | None:
    """Between what an agent's value of a measure must lie."""
    returns = spec.returns
    if measure.key == "steps_to":
        return Returns(low=0.0, high=float(NEVER * spec.task.train_steps))
    if measure.key == "auc" and returns is not None:  # an evaluation curve begins at zero
        return Returns(low=min(returns.low, 0.0), high=max(returns.high, 0.0))
    return returns if measure.key == "score" else None


def _search_score(finalist: Finalist, spec: Spec) -> float:
    """Its mean return over the search's seeds; of a trial without any, its first value."""
    by_mean = spec.search.objectives == (SCORE,) and spec.search.over_seeds == "mean"
    scores = finalist.trial.user_attrs.get("scores")
    return finalist.values[0] if by_mean or not scores else mean(scores)


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
