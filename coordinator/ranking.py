"""Which trials are better than others: by one objective or several, and by the constraints.

Losses are values whose sign is such that less is better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from trialfleet.search.marks import IMPORTED
from trialfleet.study.values import curve_area


def losses(values: Sequence[float], maximize: Sequence[bool]) -> tuple[float, ...]:
    """The values of objectives as losses."""
    return tuple(-value if more else value for value, more in zip(values, maximize, strict=True))


def excess(trial: FrozenTrial) -> float:
    """By how much a trial violates the study's constraints, as Optuna's samplers add it up.

    Zero for a trial that meets all of them.
    """
    return sum(each for each in trial.constraints.values() if each > 0)


def ranked(trials: Sequence[FrozenTrial], maximize: Sequence[bool]) -> list[FrozenTrial]:
    """The COMPLETE trials that workers trained, the best first.

    Those that meet the constraints come first, the others by how far they are from it. Then the
    first objective counts, then the next; many reach a task's highest return, so ties go to the one
    that learned faster (the area under the evaluation curve), then to the earlier trial.
    """
    complete = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE and IMPORTED not in trial.user_attrs
    ]
    return sorted(
        complete,
        key=lambda t: (
            excess(t),
            losses(t.values, maximize),
            -curve_area(t.intermediate_values),
            t.number,
        ),
    )


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """Which of these losses no other one dominates, in their order.

    One dominates another if it is nowhere worse and somewhere better. Equal ones stay.
    """
    if not points:
        return []
    array = np.asarray(points, dtype=float)  # [N, M]
    kept: list[int] = []
    # In lexicographic order nothing is dominated by what comes later.
    for index in np.lexsort(array.T[::-1]):
        others = array[kept]
        dominated = (others <= array[index]).all(axis=1) & (others < array[index]).any(axis=1)
        if not dominated.any():
            kept.append(int(index))
    return sorted(kept)


def spread_out(points: Sequence[Sequence[float]], most: int) -> list[int]:
    """At most so many of these losses, far apart, in their order.

    The one in the densest place goes first, by NSGA-II's crowding distance (Deb et al. 2002), which
    never takes the best of an objective as long as others are there; of equals, the worse by the
    first objective, then the later one.
    """
    array = np.asarray(points, dtype=float)  # [N, M]
    kept = list(range(len(points)))
    while len(kept) > most:
        distances = crowding(array[kept])
        kept.pop(
            min(
                range(len(kept)),
                key=lambda at: (distances[at], [-x for x in array[kept[at]]], -kept[at]),
            )
        )
    return kept


def crowding(points: NDArray[np.float64]) -> list[float]:
    """The crowding distance of each of these losses [N, M]: infinite for the best and worst."""
    distances = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        width = column[order[-1]] - column[order[0]]
        distances[order[[0, -1]]] = np.inf
        if width > 0 and len(order) > 2:
            distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / width
    return [float(distance) for distance in distances]
