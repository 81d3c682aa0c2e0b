"""What TPE's suggestion costs, apart from the storage that it asks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, cast
from uuid import uuid4

import optuna
from optuna.storages import BaseStorage

from trialfleet.search import space
from trialfleet.search.samplers import make_sampler
from trialfleet.store import leases
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.study.spec import Spec

Split = tuple[float, float]  # seconds: in the storage, in the sampler


class Timed:
    """A storage that counts the seconds spent in it."""

    def __init__(self, storage: BaseStorage) -> None:
        self.seconds = 0.0
        for name in dir(BaseStorage):
            if not name.startswith("__"):
                setattr(self, name, self._timed(getattr(storage, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started

        return call


def ours(database: Database, study: Study) -> Split:
    """Claim a trial and let TPE suggest its parameters, as `worker.configuration` does."""
    claim = leases.claim(database, study.name, worker="b", claim_id=uuid4(), lease_seconds=60.0)
    assert claim is not None
    storage = database.optuna_storage(claim.fence)
    timed = Timed(storage)
    started = time.perf_counter()
    with storage.opening(claim.trial_id):
        _suggest(timed, study.spec, claim.trial_id, seed=claim.number)
        suggested = time.perf_counter()
    ended = time.perf_counter()
    leases.finish(database, claim, state="COMPLETE", values=[250.0], attributes={})
    stored = timed.seconds + ended - suggested  # the parameters are stored at the end, all at once
    return stored, ended - started - stored


def stock(storage: BaseStorage, spec: Spec) -> Split:
    """The same by plain Optuna."""
    study = optuna.load_study(study_name=spec.name, storage=storage)
    trial = study.ask()
    timed = Timed(storage)
    started = time.perf_counter()
    _suggest(timed, spec, trial._trial_id, seed=trial.number)
    whole = time.perf_counter() - started
    study.tell(trial, 250.0)
    return timed.seconds, whole - timed.seconds


def _suggest(timed: Timed, spec: Spec, trial_id: int, *, seed: int) -> None:
    study = optuna.load_study(
        study_name=spec.name,
        storage=cast(BaseStorage, timed),
        sampler=make_sampler(spec, seed),
        pruner=optuna.pruners.NopPruner(),
    )
    space.suggest(optuna.Trial(study, trial_id), spec.agent)


def medians(suggest: Callable[[], Split], repeat: int) -> Split:
    """Milliseconds, after a first suggestion, which reads the history."""
    suggest()
    stored, thought = zip(*(suggest() for _ in range(repeat)), strict=True)
    return 1e3 * statistics.median(stored), 1e3 * statistics.median(thought)
