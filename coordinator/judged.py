"""What finalists were judged by, for people: the part of a result that is not the mean score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coordinator.intervals import Method, byname
from trialfleet.study.constraints import Constraint
from trialfleet.study.measures import SCORE, Objective, amount
from trialfleet.study.spec import Spec

Result = Mapping[str, Any]  # of a study, as stored; earlier versions knew one objective


def asked(spec: Spec) -> str:
    """The objectives of a study in a line, such as "score:max, auc:max; median over seeds"."""
    search = spec.search
    bounds = "".join(f"; {each.label}" for each in spec.constraints)
    return f"{', '.join(map(str, search.objectives))}; {search.over_seeds} over seeds{bounds}"


def missed(constraints: Sequence[Constraint], found: Mapping[str, float | None]) -> str:
    """The constraints that are not met, and by what."""
    return ", ".join(
        f"{each.label} came to {amount(value)}"
        for each in constraints
        if (value := found.get(each.label)) is not None and each.excess(value) > 0
    )


def infeasible(spec: Spec, result: Result) -> str:
    """That the winner does not meet the constraints, in a line; empty if it does."""
    if result.get("feasible", True):
        return ""
    (winner,) = (row for row in result["finalists"] if row["rank"] == result["winner"])
    return (
        "no finalist meets the constraints on fresh seeds; the winner came closest: "
        f"{missed(spec.constraints, winner['constraints'])}"
    )


def objectives_of(result: Result) -> list[Objective]:
    """The objectives that a result was judged by."""
    return [Objective.parse(each) for each in result.get("objectives", [str(SCORE)])]


def by_mean_score(result: Result) -> bool:
    """Whether the mean score alone decided."""
    return objectives_of(result) == [SCORE] and _over_seeds(result) == "mean"


def on_front(result: Result) -> str:
    """Which finalists no other one dominates, in a line; empty with one objective."""
    ranks = result.get("front")
    if ranks is None:
        return ""
    trials = {row["rank"]: str(row["trial"]) for row in result["finalists"]}
    listed = ", ".join(trials[rank] for rank in ranks)
    return f"Pareto front on fresh seeds: {'trials' if len(ranks) > 1 else 'trial'} {listed}"


def headings(result: Result) -> list[str]:
    """Of the columns that a table of finalists has beside the score's."""
    return [
        f"{objective.measure.name}, {where}"
        for _, objective in _beside_the_score(result)
        for where in ("search", "fresh")
    ] + _bounds(result)


def cells(result: Result, row: Mapping[str, Any]) -> list[str]:
    """A finalist's cells of those columns; empty where it has none."""
    found = row.get("constraints", {})
    return [
        amount(values[place]) if values else ""
        for place, _ in _beside_the_score(result)
        for values in (row.get("search_values"), row.get("values"))
    ] + [amount(found[label]) if label in found else "" for label in _bounds(result)]


def told(result: Result, row: Mapping[str, Any]) -> str:
    """What a finalist came to by each objective on fresh seeds, in a line; empty for the score."""
    if by_mean_score(result) or "values" not in row:
        return ""
    # Earlier versions stored bootstrap intervals and no method.
    methods = row.get("interval_methods", ["bootstrap"] * len(row["intervals"]))
    parts = [
        f"{objective.measure.name} {amount(value)}{_interval(interval, method)}"
        for objective, value, interval, method in zip(
            objectives_of(result), row["values"], row["intervals"], methods, strict=True
        )
    ]
    return f"{', '.join(parts)} ({_over_seeds(result)} over seeds)"


def _beside_the_score(result: Result) -> list[tuple[int, Objective]]:
    if by_mean_score(result):
        return []
    mean = _over_seeds(result) == "mean"
    found = enumerate(objectives_of(result))
    return [(place, each) for place, each in found if not (mean and each == SCORE)]


def _bounds(result: Result) -> list[str]:
    """The constraints that a result was judged by, as people read them."""
    return [*next((row["constraints"] for row in result["finalists"] if "constraints" in row), {})]


def _over_seeds(result: Result) -> str:
    return str(result.get("over_seeds", "mean"))


def _interval(interval: Sequence[float] | None, method: Method | None) -> str:
    if interval is None or method is None:
        return ""
    return f" [95% interval{byname(method)} {amount(interval[0])} … {amount(interval[1])}]"
