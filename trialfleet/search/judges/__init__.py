"""When a pruner ends a trial, decided on arrays: the same decisions as Optuna's own pruners.

Optuna's ask a storage for every trial as an object, at every report. These look at what a process
remembers of the study's history anyway. Values are to be maximized, as a study's are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

RUNG = "completed_rung_{}"  # the system attribute that holds a trial's value at a rung


Asked = tuple["Study", "FrozenTrial"]  # what Optuna asks a pruner about


class History(Protocol):
    """What is known of a study's other trials."""

    @property
    def complete(self) -> int:
        """How many trials are COMPLETE."""

    def at(self, step: int) -> NDArray[np.float64]:
        """What COMPLETE trials reported at this step, in ascending order, NaN last `[N]`."""

    def rung(self, number: int) -> Mapping[int, float]:
        """The values of the trials that reached this rung, by trial number."""

    def asked(self) -> Asked:
        """The study and the trial that is judged, read anew, for a pruner that is not ours."""


@dataclass(frozen=True, kw_only=True)
class Why:
    """What a trial was compared with when it was pruned."""

    rule: str  # the pruner's name in a study file
    step: int  # of the report that was judged
    value: float | None  # the trial's; None if it is not a number
    threshold: float | None  # what it missed; None if there was nothing to compare with
    where: str = ""  # the rung and bracket, where the rule has them
    side: Literal["<", ">"] = "<"  # on which side of the threshold the value was

    def as_dict(self) -> dict[str, Any]:
        """For a user attribute."""
        found: dict[str, Any] = {"rule": self.rule, "step": self.step}
        return found | {"value": self.value, "threshold": self.threshold, "text": self.text}

    @property
    def text(self) -> str:
        """One line for people, such as "median at step 1250: 12.3 < 40.1"."""
        place = f"{self.rule}{self.where} at step {self.step}"
        if self.value is None:
            return f"{place}: the value is not a number"
        if self.threshold is None:
            return f"{place}: the value was {self.value:.6g}"
        return f"{place}: {self._compared(self.value, self.threshold)}"

    def _compared(self, value: float, threshold: float) -> str:
        """Both with as many digits as it takes to tell them apart."""
        for digits in range(4, 17):
            left, right = f"{value:.{digits}g}", f"{threshold:.{digits}g}"
            if left != right:
                return f"{left} {self.side} {right}"
        return f"{value!r} {self.side} {threshold!r}"


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


def opens_interval(step: int, steps: Collection[int], *, warmup: int, interval: int) -> bool:
    """Whether the step is the first report of its interval, counted from the end of the warm-up."""
    if step < warmup:
        return False
    since = (step - warmup) // interval * interval + warmup
    return not any(since <= other < step for other in steps)
