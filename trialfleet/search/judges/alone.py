"""Pruned by nothing but its own curve: a threshold, and patience, which asks another judge too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trialfleet.search.judges import History, Judge, Verdict, Why, opens_interval


@dataclass(frozen=True, kw_only=True)
class ThresholdJudge:
    """Optuna's ThresholdPruner: a value below `lower`, above `upper`, or that is no number."""

    lower: float
    upper: float
    n_warmup_steps: int
    interval_steps: int

    def judge(self, curve: Mapping[int, float], passed: int, history: History) -> Verdict:
        """Compare the trial's last value with both thresholds."""
        why = self._outside(curve)
        return Verdict(prune=why is not None, why=why)

    def _outside(self, curve: Mapping[int, float]) -> Why | None:
        step = max(curve)
        if not opens_interval(
            step, curve, warmup=self.n_warmup_steps, interval=self.interval_steps
        ):
            return None
        value = curve[step]
        if math.isnan(value):
            return Why(rule="threshold", step=step, value=None, threshold=None)
        if value < self.lower:
            return Why(rule="threshold", step=step, value=value, threshold=self.lower)
        if value > self.upper:
            return Why(rule="threshold", step=step, value=value, threshold=self.upper, side=">")
        return None


@dataclass(frozen=True, kw_only=True)
class PatientJudge:
    """Optuna's PatientPruner: nobody is asked as long as the trial gets better."""

    wrapped: Judge | None  # None: a trial that gets no better ends
    patience: int  # evaluations in a row
    min_delta: float

    def judge(self, curve: Mapping[int, float], passed: int, history: History) -> Verdict:
        """Compare the best of the last evaluations with the best before them."""
        steps = sorted(curve)
        if len(steps) <= self.patience + 1:
            return Verdict(prune=False)
        since = len(steps) - self.patience - 1
        before = _best(curve[step] for step in steps[:since]) - self.min_delta
        lately = _best(curve[step] for step in steps[since:])
        if not before > lately:  # nor where one of them is NaN
            return Verdict(prune=False)
        if self.wrapped is not None:
            return self.wrapped.judge(curve, passed, history)
        why = Why(rule="patient", step=steps[-1], value=lately, threshold=before)
        return Verdict(prune=True, why=why)


def _best(values: Iterable[float]) -> float:
    """The greatest, NaN if there is none."""
    return max((value for value in values if not math.isnan(value)), default=math.nan)
