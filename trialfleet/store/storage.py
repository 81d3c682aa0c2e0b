"""Optuna's storage on our connections.

A storage is bound to one fence: what Optuna writes through it (parameters, reports, attributes)
obeys the lease as our own writes do. Storages of several leases share what they have read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb.models import TrialParamModel
from optuna.storages._rdb.storage import _create_scoped_session
from sqlalchemy import Engine
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from trialfleet.errors import SchemaNotReadyError
from trialfleet.postgres.database import Postgres, engine_options
from trialfleet.postgres.url import optuna_url


class Storage(_CachedStorage):
    """Optuna's own, with which opening a trial takes half as many round trips."""

    _suggested: list[TrialParamModel] | None = None
    _read: set[int] | None = None  # studies

    def on(self, engine: Engine) -> Storage:
        """This storage on another engine; the two share what either has read."""
        # Copied by hand: both classes' own way of copying opens connections and drops the lock.
        backend = RDBStorage.__new__(RDBStorage)
        backend.__dict__.update(self._backend.__dict__)
        backend.engine = engine
        backend.scoped_session = scoped_session(sessionmaker(bind=engine))
        twin = Storage.__new__(Storage)
        twin.__dict__.update(self.__dict__, _backend=backend)
        return twin

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Inside, a study's trials are read once; what is suggested is stored together, after.

        All parameters of the trial are then there, or none. Nobody reads them from the database
        before: the live trial knows what it was suggested.
        """
        suggested: list[TrialParamModel] = []
        self._suggested, self._read = suggested, set()
        try:
            yield
        finally:
            self._suggested = self._read = None
        if suggested:
            with _create_scoped_session(self._backend.scoped_session) as session:
                session.add_all(suggested)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Store a parameter, now or with the others."""
        if self._suggested is None:
            super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
            return
        self._suggested.append(
            TrialParamModel(
                trial_id=trial_id,
                param_name=param_name,
                param_value=param_value_internal,
                distribution_json=distribution_to_json(distribution),
            )
        )

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        if self._read is None or study_id not in self._read:
            super()._read_trials_from_remote_storage(study_id)
        if self._read is not None:
            self._read.add(study_id)


class Database(Postgres):
    """One process's way to the shared PostgreSQL, Optuna's storage included."""

    _optuna: Storage | None = None

    def optuna_storage(self, fence: int | None = None) -> Storage:
        """Optuna's storage on the same connections, writing under `fence`; runs no DDL."""
        if self._optuna is None:
            # RDBStorage opens an engine of its own. Where connections are few, workers that each
            # kept one and waited for a second would wait for each other: so we give ours back, its
            # engine keeps none, and its own check, which takes two at once, becomes ours.
            self.close_idle()
            backend = RDBStorage(
                optuna_url(self.url),
                engine_kwargs={
                    "poolclass": NullPool,
                    "connect_args": engine_options(self.application)["connect_args"],
                },
                skip_compatibility_check=True,
                skip_table_creation=True,
            )
            found, needed = backend.get_current_version(), backend.get_head_version()
            if found != needed:
                raise SchemaNotReadyError(
                    f"Optuna's tables are at revision {found}; this version needs {needed}"
                )
            backend.scoped_session.remove()
            self._optuna = Storage(backend).on(self.fenced(None))
        return self._optuna if fence is None else self._optuna.on(self.fenced(fence))

    def optuna_study(
        self,
        name: str,
        *,
        storage: Storage | None = None,
        sampler: optuna.samplers.BaseSampler | None = None,
        pruner: optuna.pruners.BasePruner | None = None,
    ) -> optuna.Study:
        """Optuna's study `name`, freshly opened: it remembers nothing of an earlier trial.

        Args:
            name: Optuna's.
            storage: One that carries a fence, to write to its trial.
            sampler: For a trial that is to ask it.
            pruner: Likewise.
        """
        return optuna.load_study(
            study_name=name,
            storage=storage or self.optuna_storage(),
            # Neither is used where none is given; naming one keeps Optuna from making its default.
            sampler=sampler or optuna.samplers.RandomSampler(),
            pruner=pruner or optuna.pruners.NopPruner(),
        )

    def optuna_trial(self, study: optuna.Study, trial_id: int) -> optuna.Trial:
        """The live trial `trial_id`, which must be RUNNING under the fence of `study`'s storage.

        A trial that ran before keeps the parameters it was given: `suggest_*` returns them.
        """
        # The cache knows only trials it has read; the claim was made past it.
        study.get_trials(deepcopy=False)
        return optuna.Trial(study, trial_id)


# Optuna announces every study and trial on stderr; our own log does.
optuna.logging.set_verbosity(optuna.logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)
