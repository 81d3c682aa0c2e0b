"""What a process remembers of a study's finished trials, so that it asks only for what is new.

`fleet.finished` numbers them in the order in which they were committed, under a lock: whoever has
read up to a position has missed nothing before it. Finished is final, so nothing that was read
ever changes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from sqlalchemy import Row

from trialfleet.postgres.database import Postgres
from trialfleet.search.judges import Asked
from trialfleet.store.optuna import statements
from trialfleet.store.optuna.rows import frozen

# Trials that are read at a time: the first look at a long history is many short transactions, and
# no trial is held twice for long.
_ROWS = 2_000


class Trials:
    """The finished trials of a study as Optuna's objects; for samplers, and for who reads all."""

    def __init__(self, study_id: int) -> None:
        self._study_id = study_id
        self._lock = threading.Lock()
        self._known = 0  # the position up to which it has read
        self._by_id: dict[int, FrozenTrial] = {}

    def update(self, postgres: Postgres) -> dict[int, FrozenTrial]:
        """All of them by id, in the order of their commits, after a look at what is new.

        To be read only.
        """
        with self._lock:
            values = {"study_id": self._study_id, "known": self._known, "rows": _ROWS}
            while True:
                rows = postgres.call(statements.FINISHED, values)
                for row in rows:
                    self._by_id[row.trial_id] = frozen(row)
                    self._known = values["known"] = row.position
                if len(rows) < _ROWS:
                    return self._by_id


class Curves:
    """What pruners compare any trial with, as arrays.

    Args:
        postgres: Of this process.
        study_id: Optuna's.
    """

    def __init__(self, postgres: Postgres, study_id: int) -> None:
        self._postgres = postgres
        self.study_id = study_id
        self.complete = 0  # COMPLETE trials
        self._known = 0  # the position up to which curves have been read
        self._at: dict[int, NDArray[np.float64]] = {}  # ascending
        self._rungs_known = 0  # the same for rungs
        self._rungs: dict[int, dict[int, float]] = {}  # of finished trials

    def update(self, position: int | None = None) -> None:
        """Ask for what has finished since the last time.

        Args:
            position: How many have finished, where the caller has just been told.
        """
        if position is not None and position <= self._known:
            return
        now = self._position()
        if now is None or now.finished <= self._known:
            return
        values = {"study_id": self.study_id, "known": self._known, "position": now.finished}
        for row in self._postgres.call(statements.FINISHED_CURVES, values):
            new = np.sort(np.frombuffer(row.values, dtype=">f8").astype(float))
            there = self.at(row.step)
            self._at[row.step] = np.insert(there, np.searchsorted(there, new), new)
        self._known, self.complete = now.finished, now.complete

    def at(self, step: int) -> NDArray[np.float64]:
        """What COMPLETE trials reported at this step, in ascending order, NaN last `[N]`."""
        return self._at.get(step, np.empty(0))

    def rung(self, number: int) -> dict[int, float]:
        """The values of the trials that reached this rung, by trial number.

        Those under way count too, so this one asks whenever it is called.
        """
        # Unfinished ones first: one that ends meanwhile is then found among the others.
        rows = self._postgres.call(statements.UNFINISHED_RUNGS, {"study_id": self.study_id})
        now = self._position()
        if now is not None and now.finished > self._rungs_known:
            values = {"study_id": self.study_id, "known": self._rungs_known}
            values["position"] = now.finished
            for row in self._postgres.call(statements.FINISHED_RUNGS, values):
                self._rungs.setdefault(row.rung, {})[row.number] = row.value
            self._rungs_known = now.finished
        return {
            **{row.number: row.value for row in rows if row.rung == number},
            **self._rungs.get(number, {}),
        }

    def _position(self) -> Row[Any] | None:
        rows = self._postgres.call(statements.POSITION, {"study_id": self.study_id})
        return rows[0] if rows else None


class Others:
    """A `trialfleet.search.judges.History` for one trial.

    Args:
        curves: Of the study.
        asked: Reads study and trial as Optuna's objects; for pruners that are not ours.
    """

    def __init__(self, curves: Curves, asked: Callable[[], Asked]) -> None:
        self._curves = curves
        self.asked = asked

    @property
    def complete(self) -> int:
        """How many trials are COMPLETE."""
        return self._curves.complete

    def at(self, step: int) -> NDArray[np.float64]:
        """See Curves."""
        return self._curves.at(step)

    def rung(self, number: int) -> Mapping[int, float]:
        """See Curves."""
        return self._curves.rung(number)
