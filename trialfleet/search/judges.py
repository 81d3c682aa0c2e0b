"""When a pruner ends a trial, decided on arrays: the same decisions as Optuna's own pruners.

Optuna's ask a storage for every trial as an object, at every report. These look at what a process
remembers of the study's history anyway. Values are to be maximized, as a study's are.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

RUNG = "completed_rung_{}"  # the system attribute that holds a trial's value at a rung


class History(Protocol):
    """What is known of a study's other trials."""

    @property
    def complete(self) -> int:
        """How many trials are COMPLETE."""

    def at(self, step: int) -> NDArray[np.float64]:
        """What COMPLETE trials reported at this step, in ascending order, NaN last `[N]`."""

    def rung(self, number: int) -> Mapping[int, float]:
        """The values of the trials that reached this rung, by trial number."""


@dataclass(frozen=True, kw_only=True)
class Why:
    """What a trial was compared with when it was pruned."""

    rule: str  # the pruner's name in a study file
    step: int  # of the report that was judged
    value: float | None  # the trial's; None if it is not a number
    threshold: float | None  # what it had to reach; None if there was nothing to compare with
    where: str = ""  # the rung and bracket, where the rule has them

    def as_dict(self) -> dict[str, Any]:
        """For a user attribute."""
        found: dict[str, Any] = {"rule": self.rule, "step": self.step}
        return found | {"value": self.value, "threshold": self.threshold, "text": self.text}

    @property
    def text(self) -> str:
        """One line for people, such as "median at step 1250: 12.3 < 40.1"."""
        place = f"{self.rule}{self.where} at step {self.step}"
        if self.value is None or self.threshold is None:
            return f"{place}: the value is not a number"
        return f"{place}: {_lesser(self.value, self.threshold)}"


def _lesser(value: float, threshold: float) -> str:
    """Both with as many digits as it takes to tell them apart."""
    for digits in range(4, 17):
        left, right = f"{value:.{digits}g}", f"{threshold:.{digits}g}"
        if left != right:
            return f"{left} < {right}"
    return f"{value!r} < {threshold!r}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a pruner decides after a report."""

    prune: bool
    why: Why | None = None  # of a trial that is pruned
    # System attributes that make the decision known to the trials judged later. They are to be
    # stored with it: a trial whose worker died in between is judged again, as if for the first
    # time.
    attributes: Mapping[str, float] = field(default_factory=dict)


class Judge(Protocol):
    """A pruner's decision after each report of one trial."""

    def judge(self, curve: Mapping[int, float], passed: int, history: History) -> Verdict:
        """Whether the trial ends here.

        Args:
            curve: What it has reported, by step, the last step included.
            passed: How many rungs it has passed: the attributes of its verdicts so far.
            history: Of the others.
        """


class Never:
    """Every trial trains to its end."""

    def judge(self, curve: Mapping[int, float], passed: int, history: History) -> Verdict:
        """No."""
        return Verdict(prune=False)


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
        if history.complete < max(1, self.n_startup_trials) or step < self.n_warmup_steps:
            return None
        since = (step - self.n_warmup_steps) // self.interval_steps * self.interval_steps
        if any(since + self.n_warmup_steps <= other < step for other in curve):
            return None  # judged in this interval already
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


@dataclass(frozen=True, kw_only=True)
class HalvingJudge:
    """Optuna's SuccessiveHalvingPruner: of those that reach a rung, the best part goes on."""

    min_resource: int
    reduction_factor: int
    min_early_stopping_rate: int
    rule: str = "successive_halving"  # its name in a study file
    bracket: int | None = None  # Hyperband's

    def judge(self, curve: Mapping[int, float], passed: int, history: History) -> Verdict:
        """Compare the trial with all that have reached its rung, as far as its step goes."""
        step = max(curve)
        value = curve[step]
        attributes: dict[str, float] = {}
        while step >= self._step_of(passed):
            if math.isnan(value):
                why = self._why(step, passed, None, None)
                return Verdict(prune=True, why=why, attributes=attributes)
            attributes[RUNG.format(passed)] = value
            competing = sorted([*history.rung(passed).values(), value])
            # Of fewer than reduction_factor, only the best goes on.
            promoted = max(1, len(competing) // self.reduction_factor)
            if value < (threshold := competing[-promoted]):
                why = self._why(step, passed, value, threshold)
                return Verdict(prune=True, why=why, attributes=attributes)
            passed += 1
        return Verdict(prune=False, attributes=attributes)

    def _why(self, step: int, rung: int, value: float | None, threshold: float | None) -> Why:
        bracket = "" if self.bracket is None else f" of bracket {self.bracket}"
        where = f" (rung {rung}{bracket})"
        return Why(rule=self.rule, step=step, value=value, threshold=threshold, where=where)

    def _step_of(self, rung: int) -> int:
        factor: int = self.reduction_factor ** (self.min_early_stopping_rate + rung)
        return self.min_resource * factor


class HyperbandJudge:
    """Optuna's HyperbandPruner: successive halving in brackets, each trial in one of them.

    Args:
        study: The study's name, of which a trial's bracket depends.
        number: The trial's.
        min_resource: Environment steps before the hastiest bracket prunes.
        max_resource: Environment steps of a trial.
        reduction_factor: How many compete for one place.
    """

    def __init__(
        self,
        *,
        study: str,
        number: int,
        min_resource: int,
        max_resource: int,
        reduction_factor: int,
    ) -> None:
        self._study = study
        brackets = 1 + math.floor(math.log(max_resource / min_resource, reduction_factor))
        # A bracket's share of the trials: https://jmlr.org/papers/v18/16-558.html, algorithm 1.
        self._shares = [
            math.ceil(brackets * reduction_factor**s / (s + 1)) for s in reversed(range(brackets))
        ]
        self._bracket = self._bracket_of(number)
        self._halving = HalvingJudge(
            min_resource=min_resource,
            reduction_factor=reduction_factor,
            min_early_stopping_rate=self._bracket,
            rule="hyperband",
            bracket=self._bracket,
        )

    def judge(self, curve: Mapping[int, float], passed: int, history: History) -> Verdict:
        """Compare the trial with those of its own bracket."""
        return self._halving.judge(curve, passed, _Bracket(history, self))

    def _bracket_of(self, number: int) -> int:
        place = binascii.crc32(f"{self._study}_{number}".encode()) % sum(self._shares)
        for bracket, share in enumerate(self._shares):
            place -= share
            if place < 0:
                return bracket
        raise AssertionError("the shares add up to more than any place")


class _Bracket:
    """The history of one bracket's trials."""

    def __init__(self, history: History, hyperband: HyperbandJudge) -> None:
        self._history, self._hyperband = history, hyperband
        self.complete = history.complete

    def at(self, step: int) -> NDArray[np.float64]:
        return self._history.at(step)

    def rung(self, number: int) -> Mapping[int, float]:
        mine = self._hyperband._bracket
        return {
            trial: value
            for trial, value in self._history.rung(number).items()
            if self._hyperband._bracket_of(trial) == mine
        }
