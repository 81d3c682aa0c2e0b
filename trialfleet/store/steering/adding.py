"""Configurations that people ask a study to try."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection

from trialfleet.errors import SteeringError
from trialfleet.search import space
from trialfleet.search.knobs import SearchSpace
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reading
from trialfleet.store.trials.optuna_rows import insert_waiting_trials

ENQUEUED = "enqueued"  # user attribute of a trial that somebody asked for: where


def enqueued(values: Mapping[str, Any], knobs: SearchSpace, *, where: str) -> FrozenTrial:
    """A trial that is to be run with these values, as Optuna's `enqueue_trial` makes one.

    Args:
        values: Of searched knobs, as `trialfleet.search.fixed` checked them.
        knobs: The study's.
        where: Who asked for it: the study file, or the command.
    """
    fixed = space.encode(values, knobs)
    return optuna.trial.create_trial(
        state=TrialState.WAITING,
        system_attrs={"fixed_params": fixed},
        user_attrs={ENQUEUED: where},
    )


def enqueue(database: Database, study: Study, values: Mapping[str, Any]) -> int:
    """Add a trial with these values to the search, within its budget; its number.

    It comes before trials that a sampler is to choose. If it fails, a trial of the sampler's takes
    its place.

    Raises:
        SteeringError: The search is over or being stopped, or its budget is spent.
        StudyDeletedError: It is gone.
    """
    with database.transaction() as connection:
        found = searching(connection, study)
        counts = reading.count(connection, study.search_id)
        if counts.counted + counts.pending >= found.budget:
            raise SteeringError(
                f"all {found.asked} trials of {study.name!r} are trained, under way or enqueued;"
                f" `trialfleet extend {study.name} --trials {found.asked + 1}` makes room"
            )
        template = enqueued(values, study.spec.agent, where="by hand")
        insert_waiting_trials(connection, database, study.search_id, [template])
    return counts.total


def searching(connection: Connection, study: Study) -> Study:
    """The study, locked, whose search takes more trials."""
    found = studies.lock(connection, study)
    if found.stage != "search":
        raise SteeringError(
            f"the search of {study.name!r} is over (it is at {found.stage!r});"
            " `trialfleet extend` goes on with it"
        )
    if found.stopped is not None:
        raise SteeringError(f"the search of {study.name!r} is being stopped: {found.stopped}")
    return found
