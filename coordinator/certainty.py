"""How sure a mean over seeds is: its interval as a result stores it, and as people read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from coordinator.intervals import (
    STUDENT_FROM,
    Bounds,
    Interval,
    mean_interval,
    student_interval,
)
from trialfleet.study.measures import as_score

LEVEL = 0.95
# A bounded interval so many times as long as Student's is explained to whoever reads it.
_MUCH_LONGER = 1.5


@dataclass(frozen=True, kw_only=True)
class Certainty:
    """The interval of a mean over seeds, and Student's beside it where that says something else."""

    seeds: int
    interval: Interval | None
    student: Interval | None  # beside a bounded one; None, too, where all seeds came to the same
    within: tuple[float, float] | None  # the bounds of the task's returns, for a bounded one
    together: int = 1  # finalists whose intervals hold all at once

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval's ends."""
        return None if self.interval is None else (self.interval.low, self.interval.high)

    def told(self, *, like: float) -> str:
        """The interval in words, with what it needs to hold.

        Args:
            like: The mean, whose number of decimals the ends have.
        """
        if self.interval is None:
            return "no interval: the task's returns have no bounds" + (
                f", and {self.seeds} seeds are too few for Student's t"
                if self.seeds < STUDENT_FROM
                else ", and all seeds came to the same, which says nothing of how far they scatter"
            )
        assumption = f", {self.assumption}" if self.assumption else ""
        return f"95% interval {ends_told(self.ends, like=like)}{self.interval.byname}{assumption}"

    def caveat(self, *, like: float) -> str:
        """What the interval does not say, or why it is long, in a clause; empty if neither."""
        if self.interval is None:
            return "[task] returns = { low = …, high = … }, where a task has bounds, gives one"
        if self.interval.method in ("student", "student-sequence"):
            return "a rare failure that no seed has met is not in it"
        if self.interval.method != "bounded":
            return ""
        if self.student is None:
            equal = self.seeds >= STUDENT_FROM
            return (
                f"all {self.seeds} seeds came to the same: the interval is what a failure too rare "
                "to be among them can take away"
                if equal
                else ""
            )
        if self.interval.width < _MUCH_LONGER * self.student.width:
            return ""
        ends = ends_told((self.student.low, self.student.high), like=like)
        return (
            f"Student's t would say {ends}, supposing that scores are normal: it leaves out what "
            f"a failure too rare to be among {self.seeds} seeds can take away"
        )

    def as_row(self) -> dict[str, Any]:
        """The part of a result's row that `certainty_of_row` reads."""
        found = self.interval
        return {
            "interval": None if found is None else [found.low, found.high],
            "interval_method": None if found is None else found.method,
            "interval_within": None if self.within is None else [*self.within],
            "interval_together": self.together,
            "student": None if self.student is None else [self.student.low, self.student.high],
        }

    @property
    def assumption(self) -> str:
        """What the interval needs to hold; empty where it does not."""
        if self.interval is None or self.interval.method == "bootstrap":
            return ""
        under = "if the scores of seeds are normal"
        if self.within is not None:
            low, high = (f"{end:,g}" for end in self.within)
            under = f"whatever the distribution of returns between {low} and {high}"
        return f"{under}, for all {self.together} finalists at once" if self.together > 1 else under


def certainty(
    scores: Sequence[float],
    returns: Bounds | None,
    *,
    together: int = 1,
    sequential: bool = False,
) -> Certainty:
    """Return how sure the mean of these scores is.

    Args:
        scores: Of each seed.
        returns: The bounds of the task's returns, if it has any.
        together: The number of finalists that one of was or may be chosen by their scores: each
            interval has a share of the error, so that all hold at once (Bonferroni), and with
            them the chosen one's.
        sequential: Whether the scores decided how many seeds there are.
    """
    level = 1 - (1 - LEVEL) / together
    found = mean_interval(scores, returns, level=level, sequential=sequential)
    if found is None or found.method != "bounded" or returns is None:
        return Certainty(
            seeds=len(scores), interval=found, student=None, within=None, together=together
        )
    beside = student_interval(scores, level=level, sequential=sequential)
    if beside is not None:
        beside = replace(
            beside, low=max(beside.low, returns.low), high=min(beside.high, returns.high)
        )
    return Certainty(
        seeds=len(scores),
        interval=found,
        student=beside,
        within=(returns.low, returns.high),
        together=together,
    )


def certainty_of_row(row: Mapping[str, Any]) -> Certainty:
    """Return what a result's row has stored; earlier versions have stored bootstrap intervals."""
    method = row.get("interval_method", "bootstrap")
    ends, beside = row["interval"], row.get("student")
    together = row.get("interval_together", 1)
    within = row.get("interval_within")
    level = 1 - (1 - LEVEL) / together
    return Certainty(
        seeds=len(row["scores"]),
        interval=None if ends is None else Interval(ends[0], ends[1], level, method),
        student=None if beside is None else Interval(beside[0], beside[1], level, "student"),
        within=None if within is None else (within[0], within[1]),
        together=together,
    )


def ends_told(ends: tuple[float, float] | None, *, like: float) -> str:
    """The ends of an interval for a table's cell, with as many decimals as another score."""
    if ends is None:
        return "–"
    return " … ".join(as_score(end, like=like) for end in ends)


def footnote(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the intervals in a table of finalists need to hold, in a sentence; empty without any."""
    found = [certainty_of_row(row) for row in rows if not row["failures"]]
    methods = {each.interval.method for each in found if each.interval is not None}
    parts = []
    if "bounded" in methods:
        within = next(each.within for each in found if each.within is not None)
        low, high = (f"{end:,g}" for end in within)
        parts.append(f"whatever the distribution of returns between {low} and {high}")
    if methods & {"student", "student-sequence"}:
        parts.append("if scores are normal (Student's t)")
    if "bootstrap" in methods:
        return "Intervals are percentile bootstraps of an earlier version, which are too short."
    if not parts:
        return "There are no intervals: too few seeds, and no bounds of the task's returns."
    together = max(each.together for each in found)
    whole = f"all {together} at once" if together > 1 else "each by itself"
    return f"The finalists' intervals hold {' or '.join(parts)}, {whole}."
