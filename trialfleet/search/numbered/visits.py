"""Which configuration of a finite number each trial of a study has, by the trials' numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from trialfleet.search.numbered.points import Points, permuted

_permuted = lru_cache(maxsize=100_000)(permuted)

Params = Mapping[str, Any]  # of a trial, as Optuna has them


class Visits:
    """The configurations of a study's trials, which it is told of in the order of their numbers.

    Optuna's own samplers look which configurations are not there yet: two workers that look at once
    both take the same. Here a configuration follows from what no longer changes when a trial is
    numbered: which trials before it were enqueued, with what, and which were imported. Once all
    have been tried, a trial takes the place of one that failed, in the order in which trials
    failed: there is such a trial only because of that failure, and the order of the commits never
    changes.

    Args:
        points: The configurations.
        seed: The same for all trials of a study; draws their order.
    """

    def __init__(self, points: Points, *, seed: int) -> None:
        self._points, self._seed = points, seed
        self._had: dict[int, Params] = {}  # the configuration of each trial, by its number
        self._tried: set[int] = set()
        self._fresh = 0  # of the order, how many have been looked at
        self._again: list[int] | None = None  # trials that failed, oldest first
        self._beside = 0  # enqueued trials that are none of the configurations, or one again

    @property
    def most(self) -> int:
        """How many trials it takes until each configuration has been tried."""
        return self._points.count + self._beside

    def first(self, number: int) -> Params | None:
        """The configuration of a trial that none before it was enqueued or imported."""
        if number >= self._points.count:
            return None
        return self._points.at(self._nth(number, self._points))

    def enqueued(self, number: int, params: Params) -> Params:
        """The configuration of a trial that somebody asked for with some of its parameters."""
        point, index = self._asked_for(params)
        if index is None:
            self._beside += 1
        else:
            self._tried.add(index)
        self._had[number] = point
        return point

    def drawn(self, number: int, failed: Callable[[], list[int]]) -> Params:
        """The configuration of a trial that nobody asked for.

        Args:
            number: The trial's.
            failed: Asked once all have been tried: the trials that failed, oldest first.
        """
        count = self._points.count
        while self._fresh < count and self._nth(self._fresh, self._points) in self._tried:
            self._fresh += 1
        if self._fresh < count:
            index = self._nth(self._fresh, self._points)
            self._tried.add(index)
            point: Params = self._points.at(index)
        else:
            point = self._once_more(number, failed)
        self._had[number] = point
        return point

    def _once_more(self, number: int, failed: Callable[[], list[int]]) -> Params:
        if self._again is None:
            self._again = failed()
        while self._again:
            point = self._had.get(self._again.pop(0))
            if point is not None:
                return point
        # More trials than there is anything to try: of a study that Optuna itself enqueued to.
        return self._points.at(self._nth(number % self._points.count, self._points))

    def _asked_for(self, params: Params) -> tuple[Params, int | None]:
        """The first configuration with these parameters that was not tried, and which it is."""
        left = self._points.fixing(params)
        for index in range(min(left.count, len(self._tried) + 1)):
            point = left.at(self._nth(index, left))
            found = self._points.index_of(point)
            if found is None or found not in self._tried:
                return point, found
        return left.at(self._nth(0, left)), None

    def _nth(self, index: int, points: Points) -> int:
        return _permuted(index, points.count, self._seed)
