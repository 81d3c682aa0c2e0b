"""Evaluations on their way to the database, and what the pruner makes of them."""

from __future__ import annotations

import optuna
import structlog

from trialfleet.postgres.outages import is_outage
from trialfleet.store import metrics
from trialfleet.store.metrics import Metric
from trialfleet.store.storage import Database
from trialfleet.store.trials.optuna_rows import note_report, report
from worker.trainers.protocol import Evaluation

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
        """Write all that waits in one transaction. Repeating it changes nothing."""
        if not self._waiting:
            return
        means = {each.step: float(each.metrics["return"].mean()) for each in self._waiting}
        rows = [
            Metric(step=each.step, name=name, values=values.tolist())
            for each in self._waiting
            for name, values in each.metrics.items()
        ]
        with self._database.transaction(self._fence) as connection:
            for step, mean in means.items():
                report(connection, self._database, self._trial, mean, step)
            metrics.write(connection, self._trial._trial_id, rows)
        for step, mean in means.items():
            note_report(self._trial, mean, step)
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
