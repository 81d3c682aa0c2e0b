"""The database of one process: its engine, and Optuna's studies on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import optuna
from optuna.trial import FrozenTrial

from trialfleet.errors import StudyDeletedError
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

    def trials(self, study_id: int) -> list[FrozenTrial]:
        """All trials of one of Optuna's studies by number, to be read only.

        Raises:
            StudyDeletedError: There is no such study any more.
        """
        storage = self.optuna_storage()
        with _deleted(study_id):
            found = storage.get_all_trials(study_id, deepcopy=False)
            # What has finished is remembered, so it would be found without the study, too.
            storage.get_study_name_from_id(study_id)
        return found

    def open_study(
        self,
        study_id: int,
        *,
        storage: Storage | None = None,
        sampler: optuna.samplers.BaseSampler | None = None,
    ) -> optuna.Study:
        """One of Optuna's studies, freshly opened: it remembers nothing of an earlier trial.

        Whoever has read a study opens it by its id. Its name may be another's by now: `extend`
        renames a final stage, and a study that was deleted may have been made anew.

        Args:
            study_id: Optuna's.
            storage: One that carries a fence, to write to its trial.
            sampler: For a trial that is to ask it.

        Raises:
            StudyDeletedError: There is no such study any more.
        """
        storage = storage or self.optuna_storage()
        while True:
            with _deleted(study_id):
                name = storage.get_study_name_from_id(study_id)
            with suppress(KeyError):  # renamed between the two questions
                study = self.optuna_study(name, storage=storage, sampler=sampler)
                if study._study_id == study_id:
                    return study

    def optuna_study(
        self,
        name: str,
        *,
        storage: Storage | None = None,
        sampler: optuna.samplers.BaseSampler | None = None,
    ) -> optuna.Study:
        """The study that is called `name` now, for whoever knows no more of it than that."""
        return optuna.load_study(
            study_name=name,
            storage=storage or self.optuna_storage(),
            # Not used where none is given; naming one keeps Optuna from making its default.
            sampler=sampler or optuna.samplers.RandomSampler(),
            pruner=optuna.pruners.NopPruner(),
        )


@contextmanager
def _deleted(study_id: int) -> Iterator[None]:
    """A missing row as an error that names the remedy."""
    try:
        yield
    except KeyError as exc:
        raise StudyDeletedError(f"Optuna's study {study_id} was deleted") from exc


# Optuna announces every study and trial on stderr; our own log does.
optuna.logging.set_verbosity(optuna.logging.WARNING)
