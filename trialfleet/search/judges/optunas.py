"""A pruner of the user's own, which is Optuna's or a subclass of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from optuna.pruners import BasePruner

from trialfleet.search.judges import History, Verdict, Why


@dataclass(frozen=True, kw_only=True)
class OptunaJudge:
    """Asks the pruner as Optuna does, which reads the study and the trial at every question."""

    rule: str  # its name in a study file
    pruner: BasePruner

    def judge(self, curve: Mapping[int, float], passed: int, history: History) -> Verdict:
        """What it says; what it stores, it stores itself."""
        study, trial = history.asked()
        if not self.pruner.prune(study, trial):
            return Verdict(prune=False)
        step = max(curve)
        value = curve[step] if math.isfinite(curve[step]) else None
        return Verdict(prune=True, why=Why(rule=self.rule, step=step, value=value, threshold=None))
