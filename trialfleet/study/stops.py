"""When a search ends before its budget is spent."""

from __future__ import annotations

from typing import Annotated

from trialfleet.checking.fields import Strict
from trialfleet.checking.rules import Real, Whole

_YEAR = 366 * 24 * 3600  # seconds


class Stop(Strict):
    """Rules by which the leading coordinator stops the search; the first that holds does.

    Trials under way run to their end, so a rule may be overstepped by what they still take.
    """

    # a trial was completed with this score, or a better one
    target: Annotated[float | None, Real(-1e300, 1e300)] = None
    # so many trials that count have ended since the best so far
    no_improvement: Annotated[int | None, Whole(1, 1_000_000)] = None
    # since the first trial began, pauses left out
    seconds: Annotated[float | None, Real(0, _YEAR, exclusive_low=True)] = None
    # environment steps of all agents: of trials that count, and of those under way
    steps: Annotated[int | None, Whole(1, 10**15)] = None
