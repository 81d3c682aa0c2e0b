"""Pruned at rungs, of which each lets the best part go on: successive halving and Hyperband."""

from __future__ import annotations

import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trialfleet.search.judges import RUNG, Asked, History, Verdict, Why


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

    def asked(self) -> Asked:
        return self._history.asked()
