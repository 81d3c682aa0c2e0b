"""Evaluations on their way to the database, and what the study's pruner makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import structlog

from trialfleet.postgres.outages import is_outage
from trialfleet.search.judges import Asked, Judge
from trialfleet.store.leases import Claim
from trialfleet.store.metrics import Metric
from trialfleet.store.optuna.history import Curves, Others
from trialfleet.store.optuna.storage import Storage
from trialfleet.store.storage import Database
from trialfleet.store.trials import reports
from trialfleet.study.values import combined
from worker.trainers.protocol import Evaluation

log = structlog.get_logger()


class Reports:
    """An attempt's evaluations, sent in order, and again where a crash of the server lost some.

    Args:
        database: Of this process.
        claim: Ours.
        judge: Decides after each report; None where nothing is pruned.
        history: Of the study's other trials.
        curve: What earlier attempts reported up to where this one begins, by step.
        passed: Rungs that they have passed.
        over_seeds: How the agents' returns become the one that is reported and judged.
    """

    def __init__(
        self,
        database: Database,
        claim: Claim,
        *,
        judge: Judge | None,
        history: Curves,
        curve: Mapping[int, float],
        passed: int = 0,
        over_seeds: str = "mean",
    ) -> None:
        self._database, self._claim = database, claim
        self._judge, self._history = judge, history
        self._curve = dict(curve)
        self._passed = passed
        self._over_seeds = over_seeds
        self._all: list[Evaluation] = []  # kept: a report is acknowledged before it is safe
        self.sent = max(curve, default=0)  # the last step that was acknowledged
        self._finished = 0  # trials of the study that have finished, as far as we were told
        # Optuna's system attributes that belong to the last verdict; an ending stores them with it.
        self.attributes: Mapping[str, Any] = {}

    def add(self, evaluation: Evaluation) -> None:
        """Take an evaluation to report."""
        self._all.append(evaluation)

    def flush(self) -> None:
        """Send all that waits. Repeating it changes nothing."""
        waiting = [each for each in self._all if each.step > self.sent]
        while waiting:
            receipt = reports.send(
                self._database,
                self._claim,
                sent=self.sent,
                returns=[(each.step, self._return(each)) for each in waiting],
                metrics=[
                    Metric(step=each.step, name=name, values=values.tolist())
                    for each in waiting
                    for name, values in each.metrics.items()
                ],
            )
            self.sent, self._finished = receipt.stored, receipt.finished
            waiting = [each for each in self._all if each.step > self.sent]
            if waiting:
                log.warning("reports lost in a crash of the database, sending them again")

    def send_again(self) -> None:
        """Send all of them, because the database said that it has lost some."""
        self.sent = 0
        self.flush()

    def try_to_flush(self) -> bool:
        """Whether everything is sent; an outage is no error here."""
        try:
            self.flush()
        except Exception as exc:
            if not is_outage(exc):
                raise
            log.warning("database away, training on", trial=self._claim.number)
            return False
        return True

    def pruned(self, storage: Storage) -> bool:
        """Whether the trial ends after its last report; never while the database is away."""
        if self._judge is None:
            return False
        self._curve.update((each.step, self._return(each)) for each in self._all)
        try:
            self._history.update(self._finished)
            others = Others(self._history, partial(self._asked, storage))
            verdict = self._judge.judge(self._curve, self._passed, others)
            self.attributes = verdict.attributes
            if verdict.prune:
                return True
            for key, value in verdict.attributes.items():
                storage.set_trial_system_attr(self._claim.trial_id, key, value)
        except Exception as exc:
            if not is_outage(exc):
                raise
            return False
        self._passed += len(verdict.attributes)
        self.attributes = {}
        return False

    def _asked(self, storage: Storage) -> Asked:
        trial = storage.get_trial(self._claim.trial_id)
        return self._database.open_study(self._history.study_id, storage=storage), trial

    def _return(self, evaluation: Evaluation) -> float:
        returns = evaluation.metrics["return"].tolist()
        return combined(returns, self._over_seeds, maximize=True)
