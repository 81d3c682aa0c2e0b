"""Evaluations on their way to the database, and the pruner's word on them."""

from __future__ import annotations

import optuna
import structlog

from trialfleet.postgres.outages import is_outage
from trialfleet.store import metrics
from trialfleet.store.metrics import Metric
from trialfleet.store.storage import Database
from trialfleet.store.trials.optuna_rows import note_report, report
from worker.trainers.dqn.train import Evaluation

log = structlog.get_logger()


class Reports:
    """Evaluations that wait, in order, until the database takes them.

    Args:
        database: Of this process.
        trial: Optuna's live trial.
        fence: Of its lease.
    """

    def __init__(self, database: Database, trial: optuna.Trial, *, fence: int) -> None:
        self._database, self._trial, self._fence = database, trial, fence
        self._waiting: list[Evaluation] = []

    def add(self, evaluation: Evaluation) -> None:
        """Take an evaluation to report."""
        self._waiting.append(evaluation)

    def flush(self) -> None:
        """Write what waits, oldest first. Repeating it after a lost reply changes nothing."""
        if not self._waiting:
            return
        means = {each.step: each.returns.mean(axis=1) for each in self._waiting}  # [S] each
        with self._database.transaction(self._fence) as connection:
            for step, values in means.items():
                report(connection, self._database, self._trial, float(values.mean()), step)
            rows = [Metric(step=step, name="return", values=v) for step, v in means.items()]
            metrics.write(connection, self._trial._trial_id, rows)
        for step, values in means.items():
            note_report(self._trial, float(values.mean()), step)
        self._waiting.clear()

    def try_to_flush(self) -> bool:
        """Whether everything is written; an outage is no error here."""
        try:
            self.flush()
        except Exception as exc:
            if not is_outage(exc):
                raise
            log.warning("database away, training on", trial=self._trial.number)
            return False
        return True

    def pruned(self) -> bool:
        """Whether the pruner ends the trial; never while the database is away."""
        try:
            return self._trial.should_prune()
        except Exception as exc:
            if not is_outage(exc):
                raise
            return False
