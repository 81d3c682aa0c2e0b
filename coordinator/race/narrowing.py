"""A confirmation that goes on until its interval is narrow: what is decided after each block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from coordinator.intervals import Interval, mean_interval
from trialfleet.study.measures import as_score
from trialfleet.study.returns import Returns
from trialfleet.study.spec import Spec

# The winner's seeds go on; its interval is narrow; all seeds are trained, and it is not.
Verdict = Literal["confirming", "confirmed", "spent"]
VERDICTS: tuple[Verdict, ...] = ("confirming", "confirmed", "spent")


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """What such a confirmation goes by."""

    width: float  # of the interval, at most
    most: int  # seeds
    returns: Returns | None  # bounds of a seed's score

    @classmethod
    def of(cls, spec: Spec) -> Narrowing | None:
        """That of a study; None where the number of its seeds is fixed."""
        until = spec.final.until
        if until is None:
            return None
        return cls(width=until.width, most=until.most, returns=spec.returns)

    def interval(self, scores: Sequence[float]) -> Interval | None:
        """The interval of the mean, which allows for having been looked at after every block."""
        return mean_interval(scores, self.returns, sequential=True)

    def narrow(self, interval: Interval | None) -> bool:
        """Whether it is narrow enough."""
        return interval is not None and interval.width <= self.width

    def decide(self, scores: Sequence[float]) -> tuple[Verdict, str]:
        """What follows from the scores of all seeds so far, and why, in a line."""
        interval = self.interval(scores)
        if interval is None:
            said = f"{len(scores)} seeds have no interval yet"
        else:
            mean = float(np.mean(scores))
            low, high, width = (
                as_score(each, like=mean) for each in (interval.low, interval.high, interval.width)
            )
            said = f"{interval.name} {low} … {high} is {width} wide, to be {self.width:g}"
        if self.narrow(interval):
            return "confirmed", said
        if len(scores) < self.most:
            return "confirming", said
        return "spent", f"{said}, and all {self.most} seeds are trained"


def seeds_for(narrowing: Narrowing) -> int:
    """How many seeds reach the width if each of them scores the same, with bounds of returns."""
    assert narrowing.returns is not None
    low, high = 0, 1
    while (least := narrowest(replace(narrowing, most=high))) is None or least > narrowing.width:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        least = narrowest(replace(narrowing, most=middle))
        if least is None or least > narrowing.width:
            low = middle
        else:
            high = middle
    return high


def narrowest(narrowing: Narrowing) -> float | None:
    """The width that is reached with all seeds if each of them scores the same.

    None where bounds do not limit it: then it depends on how much the seeds scatter.
    """
    if narrowing.returns is None:
        return None
    interval = narrowing.interval([narrowing.returns.high] * narrowing.most)
    return None if interval is None else interval.width
