"""Pruned for being worse than other trials were at the same step: median and percentile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trialfleet.search.judges import History, Verdict, Why, opens_interval


@dataclass(frozen=True, kw_only=True)
class PercentileJudge:
    """Optuna's PercentilePruner: below what `percentile` per cent of the others had at the step."""

    rule: str = "percentile"  # its name in a study file
    percentile: float
    n_startup_trials: int
    n_warmup_steps: int
    interval_steps: int
    n_min_trials: int

    def judge(self, curve: Mapping[int, float], passed: int, history: History) -> Verdict:
        """Compare the trial's best so far with the others' values at this step."""
        why = self._below(curve, history)
        return Verdict(prune=why is not None, why=why)

    def _below(self, curve: Mapping[int, float], history: History) -> Why | None:
        step = max(curve)
        if history.complete < max(1, self.n_startup_trials):
            return None
        if not opens_interval(
            step, curve, warmup=self.n_warmup_steps, interval=self.interval_steps
        ):
            return None
        values = [value for value in curve.values() if not math.isnan(value)]
        if not values:
            return Why(rule=self.rule, step=step, value=None, threshold=None)
        others = history.at(step)
        if len(others) < self.n_min_trials:
            return None
        best, threshold = max(values), percentile_of_sorted(others, 100.0 - self.percentile)
        if best < threshold:  # not below NaN, which is no threshold
            return Why(rule=self.rule, step=step, value=best, threshold=threshold)
        return None


def percentile_of_sorted(values: NDArray[np.float64], percentile: float) -> float:
    """`np.nanpercentile` of ascending values `[N]` with NaN last, to the bit, without sorting."""
    count = len(values)
    while count and math.isnan(values[count - 1]):
        count -= 1
    if not count:
        return math.nan
    # NumPy's method "linear", its interpolation included.
    position = (count - 1) * (percentile / 100.0)
    below = math.floor(position)
    share = position - below
    low, high = float(values[below]), float(values[min(below + 1, count - 1)])
    if share >= 0.5:
        return high - (high - low) * (1.0 - share)
    return low + (high - low) * share
