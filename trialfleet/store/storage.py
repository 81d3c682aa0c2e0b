"""The database of one process: its engine, and Optuna's studies on it."""

from __future__ import annotations

import optuna

from trialfleet.postgres.database import Postgres
from trialfleet.store.optuna.storage import Storage


class Database(Postgres):
    """One process's way to the shared PostgreSQL, Optuna's storage included."""

    _optuna: Storage | None = None

    def optuna_storage(self, fence: int | None = None) -> Storage:
        """Optuna's storage on the same connections, writing under `fence`; runs no DDL."""
        if self._optuna is None:
            self._optuna = Storage(self)
        return self._optuna if fence is None else self._optuna.under(fence)

    def optuna_study(
        self,
        name: str,
        *,
        storage: Storage | None = None,
        sampler: optuna.samplers.BaseSampler | None = None,
    ) -> optuna.Study:
        """Optuna's study `name`, freshly opened: it remembers nothing of an earlier trial.

        Args:
            name: Optuna's.
            storage: One that carries a fence, to write to its trial.
            sampler: For a trial that is to ask it.
        """
        return optuna.load_study(
            study_name=name,
            storage=storage or self.optuna_storage(),
            # Not used where none is given; naming one keeps Optuna from making its default.
            sampler=sampler or optuna.samplers.RandomSampler(),
            pruner=optuna.pruners.NopPruner(),
        )


# Optuna announces every study and trial on stderr; our own log does.
optuna.logging.set_verbosity(optuna.logging.WARNING)
