"""When a search ends before its budget is spent."""

from __future__ import annotations

from typing import Annotated

from trialfleet.checking.fields import Strict
from trialfleet.checking.mistakes import FieldError
from trialfleet.checking.rules import Real, Whole

_YEAR = 366 * 24 * 3600  # seconds


class Stop(Strict):
    """Rules by which the leading coordinator stops the search; the first that holds does.

    Trials under way run to their end, so a rule may be overstepped by what they still take.
    """

    # value that a completed trial reaches or betters while it meets the constraints
    target: Annotated[float | None, Real(-1e300, 1e300)] = None
    # trials that count and have ended since the best one did
    no_improvement: Annotated[int | None, Whole(1, 1_000_000)] = None
    # seconds since the first trial began, without pauses
    seconds: Annotated[float | None, Real(0, _YEAR, exclusive_low=True)] = None
    # environment steps of all agents, of trials that count or are under way
    steps: Annotated[int | None, Whole(1, 10**15)] = None

    def check(self, objectives: int) -> None:
        """Refuse rules about the best trial where there is none; raises FieldError."""
        for name in ("target", "no_improvement"):
            if objectives > 1 and (value := getattr(self, name)) is not None:
                raise FieldError(
                    f"{value:g}; there are {objectives} objectives, so there is no single best"
                    " trial; must be left out, or be a rule of seconds or steps",
                    at=name,
                )
