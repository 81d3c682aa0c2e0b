"""The shared PostgreSQL: engine, transactions, and all we know of Optuna's storage internals.

What a caller may count on:

- every transaction of a `Database`, Optuna's included, carries the fence it was given, and the
  database refuses its writes to a trial once that fence is no longer the trial's lease;
- workers never run DDL: only `create_schema` does, under an advisory lock.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import optuna
from optuna.artifacts._upload import ARTIFACTS_ATTR_PREFIX, ArtifactMeta
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb.models import StudyModel, TrialParamModel
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tuning import tables
from tuning.errors import DatabaseUnavailableError, SchemaNotReadyError
from tuning.postgres import (
    REPLY_TIMEOUT,
    engine_options,
    is_momentary,
    set_reply_timeout,
    translated_errors,
)

# Serialises migrators; any constant does, as long as it never changes.
_MIGRATION_LOCK = 0x7472_6961_6C66  # "trialf"
# Seconds between two statements of a transaction after which the server ends it. A worker that is
# frozen there (a suspended machine, a cut network) would keep its locks, and with the study's lock
# or a lease's all others from claiming and reaping, until it wakes up or for ever.
_LONGEST_SILENCE = 5.0
# Seconds of the longest pause between two first connections, and of waiting in all, for a server
# that says that it will have us in a moment.
_LONGEST_PAUSE, _PATIENCE = 5.0, 300.0
# More than three quarters of what is not kept for superusers. Every role may see these numbers.
NEARLY_FULL = text("""
    SELECT (SELECT sum(numbackends) FROM pg_stat_database) > 0.75 * (
        current_setting('max_connections')::integer
        - current_setting('superuser_reserved_connections')::integer
        - coalesce(current_setting('reserved_connections', true)::integer, 0)
    )
""")


class Storage(_CachedStorage):
    """Optuna's own, with which opening a trial takes half as many round trips."""

    _suggested: list[TrialParamModel] | None = None
    _read: set[int] | None = None  # studies

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


class Database:
    """One process's way to the shared PostgreSQL.

    Args:
        url: From `parse_url`.
        application: Shown in `pg_stat_activity`.
        pause: Called with the seconds to wait for a server that is not ready yet; may raise.

    Raises:
        DatabaseUnavailableError: It cannot be reached or refuses the login; the message says which.
    """

    def __init__(
        self, url: URL, *, application: str, pause: Callable[[float], object] = time.sleep
    ) -> None:
        self.url = url
        # The fence of the trial at hand. Set it before the first write to the trial, and clear it
        # after the last.
        self.fence: int | None = None
        self._application = application
        self._pause = pause
        self._optuna: Storage | None = None
        self.engine = create_engine(url, **engine_options(application))
        self._prepare_transactions(self.engine)
        self._connect()

    def _connect(self) -> None:
        """Try once; wait only for a server that says itself that it will be there in a moment."""
        deadline, longest = time.monotonic() + _PATIENCE, 0.2
        while True:
            try:
                with translated_errors(self.url), self.engine.connect():
                    return
            except DatabaseUnavailableError as exc:
                if not is_momentary(exc) or time.monotonic() > deadline:
                    raise
                self._pause(random.uniform(0, longest))
                longest = min(2 * longest, _LONGEST_PAUSE)

    def _prepare_transactions(self, engine: Engine) -> None:
        @event.listens_for(engine, "begin")
        def set_for_this_transaction(connection: Connection) -> None:
            # Nothing outlives the transaction, so a transaction-pooling proxy between us and
            # PostgreSQL does no harm.
            fence = "" if self.fence is None else str(self.fence)
            connection.exec_driver_sql(
                "SELECT set_config('fleet.fence', %s, true),"
                " set_config('idle_in_transaction_session_timeout', %s, true)",
                (fence, f"{_LONGEST_SILENCE:g}s"),
            )

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back on an exception."""
        with self.engine.begin() as connection:
            yield connection

    @property
    def optuna_storage(self) -> Storage:
        """Optuna's storage on the same connections and under the same fence; runs no DDL."""
        if self._optuna is None:
            # RDBStorage opens an engine of its own. Where connections are few, workers that each
            # kept one and waited for a second would wait for each other: so we give ours back, its
            # engine keeps none, and its own check, which takes two at once, becomes ours.
            self.rest()
            storage = RDBStorage(
                _optuna_url(self.url),
                engine_kwargs={
                    "poolclass": NullPool,
                    "connect_args": engine_options(self._application)["connect_args"],
                },
                skip_compatibility_check=True,
                skip_table_creation=True,
            )
            found, needed = storage.get_current_version(), storage.get_head_version()
            if found != needed:
                raise SchemaNotReadyError(
                    f"Optuna's tables are at revision {found}; this version needs {needed}"
                )
            # Ours, which carries the fence, takes over.
            storage.engine = self.engine
            storage.scoped_session.remove()
            storage.scoped_session.configure(bind=self.engine)
            self._optuna = Storage(storage)
        return self._optuna

    def optuna_study(
        self,
        name: str,
        *,
        sampler: optuna.samplers.BaseSampler | None = None,
        pruner: optuna.pruners.BasePruner | None = None,
    ) -> optuna.Study:
        """Optuna's study `name`, freshly opened: it remembers nothing of an earlier trial."""
        return optuna.load_study(
            study_name=name,
            storage=self.optuna_storage,
            # Neither is used where none is given; naming one keeps Optuna from making its default.
            sampler=sampler or optuna.samplers.RandomSampler(),
            pruner=pruner or optuna.pruners.NopPruner(),
        )

    def optuna_trial(self, study: optuna.Study, trial_id: int) -> optuna.Trial:
        """The live trial `trial_id`, which must be RUNNING under our fence.

        A trial that ran before keeps the parameters it was given: `suggest_*` returns them.
        """
        # The cache knows only trials it has read; the claim was made past it.
        study.get_trials(deepcopy=False)
        return optuna.Trial(study, trial_id)

    def wait_for_schema(self, patience: float) -> None:
        """Return once the migrator has done its work.

        Raises:
            SchemaNotReadyError: It has not after `patience` seconds.
        """
        found = wait_until(self._ready, patience, sleep=self._pause)
        if not found:
            with self.transaction() as connection:
                revision = _revision(connection)
            state = f"is at revision {revision}" if revision else "is empty"
            raise SchemaNotReadyError(
                f"the database's schema {state}; this version needs revision {tables.REVISION}"
            )

    def _ready(self) -> bool:
        with self.transaction() as connection:
            return _revision(connection) == tables.REVISION

    def nearly_full(self) -> bool:
        """Whether the server is running out of connections."""
        with self.transaction() as connection:
            return bool(connection.scalar(NEARLY_FULL))

    def rest(self) -> None:
        """Give back the connections that nobody is using; they are opened again when needed."""
        self.engine.dispose()

    def close(self) -> None:
        """Give every connection back."""
        self.engine.dispose()


def _revision(connection: Connection) -> str | None:
    if connection.scalar(text("SELECT to_regclass('fleet.alembic_version')")) is None:
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM fleet.alembic_version"))
    return revision


def _optuna_url(url: URL) -> str:
    # RDBStorage passes its URL through str.format, so a brace in a password must not look like one.
    plain = url.render_as_string(hide_password=False)
    return plain.replace("{", "%7B").replace("}", "%7D")


def create_schema(url: URL, upgrade: Callable[[Connection], None]) -> None:
    """Create or upgrade Optuna's tables, then ours with `upgrade`. Safe to run from many at once.

    The lock lives as long as the transaction, so a migrator that dies cannot keep it.
    """
    set_reply_timeout(None)  # other migrators, and large tables, take their time
    engine = create_engine(url, **engine_options("trialfleet-migrate"))
    try:
        with translated_errors(url), engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            storage = RDBStorage(
                _optuna_url(url),
                engine_kwargs=engine_options("trialfleet-migrate"),
                skip_compatibility_check=True,
            )
            if storage.get_current_version() != storage.get_head_version():
                storage.upgrade()
            storage.engine.dispose()
            upgrade(connection)
    finally:
        engine.dispose()
        set_reply_timeout(REPLY_TIMEOUT)


def insert_waiting_trials(
    connection: Connection, database: Database, study_id: int, templates: list[FrozenTrial]
) -> None:
    """Insert WAITING trials as Optuna would, in the caller's transaction: all of them, or none."""
    storage = database.optuna_storage._backend
    with Session(bind=connection, join_transaction_mode="rollback_only") as session:
        StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
        for template in templates:
            storage._get_prepared_new_trial(study_id, template, session)
            session.flush()  # the next trial's number counts this one
        session.commit()


def report(
    connection: Connection, database: Database, trial: optuna.Trial, value: float, step: int
) -> None:
    """What `trial.report` stores, in the caller's transaction; `note_report` when it is through."""
    backend = database.optuna_storage._backend
    with Session(bind=connection, join_transaction_mode="rollback_only") as session:
        backend._set_trial_intermediate_value_without_commit(session, trial._trial_id, step, value)
        session.commit()


def note_report(trial: optuna.Trial, value: float, step: int) -> None:
    """Let the live trial know of a report that was stored: its pruner looks there."""
    trial._cached_frozen_trial.intermediate_values[step] = value


def link_artifact(trial: optuna.Trial, artifact: str, filename: str) -> None:
    """List an artifact with its trial, as `optuna.artifacts.upload_artifact` does.

    That function would name the artifact itself, and a repeated upload would list it twice.
    """
    meta = ArtifactMeta(
        artifact_id=artifact,
        filename=filename,
        mimetype="application/octet-stream",
        encoding=None,
    )
    trial.storage.set_trial_system_attr(
        trial._trial_id, ARTIFACTS_ATTR_PREFIX + artifact, json.dumps(asdict(meta))
    )


def wait_until(
    condition: Callable[[], bool],
    patience: float,
    *,
    pause: float = 0.2,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Poll `condition` until it holds or `patience` seconds have passed; the last answer."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() >= deadline:
            return False
        sleep(pause)
    return True


# Optuna announces every study and trial on stderr; our own log does.
optuna.logging.set_verbosity(optuna.logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)
