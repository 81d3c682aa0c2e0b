"""Configurations that people ask a study to try."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, text

from trialfleet.errors import SteeringError
from trialfleet.search.knobs import SearchSpace
from trialfleet.search.marks import ENQUEUED
from trialfleet.search.numbered.visits import Visits
from trialfleet.search.parameters import encode
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reading
from trialfleet.store.trials.optuna_rows import insert_trials

# What a grid would not try itself is beside the budget, as long as the study file has room for it.
ADD = text("UPDATE fleet.studies SET budget = budget + 1 WHERE search_id = :search_id")


def enqueued(values: Mapping[str, Any], knobs: SearchSpace, *, where: str) -> FrozenTrial:
    """A trial that is to be run with these values, as Optuna's `enqueue_trial` makes one.

    Args:
        values: Of searched knobs, as `trialfleet.search.fixed` checked them.
        knobs: The study's.
        where: Who asked for it: the study file, or the command.
    """
    fixed = encode(values, knobs)
    return optuna.trial.create_trial(
        state=TrialState.WAITING,
        system_attrs={"fixed_params": fixed},
        user_attrs={ENQUEUED: where},
    )


def enqueue(database: Database, study: Study, values: Mapping[str, Any]) -> int:
    """Add a trial with these values to the search, within its budget; its number.

    It comes before trials that a sampler is to choose. If it fails, a trial of the sampler's takes
    its place. Where each configuration is tried once and all of them are to be, one that is none of
    them, or one again, takes no place of theirs.

    Raises:
        SteeringError: The search is over or being stopped, or its budget is spent.
        StudyDeletedError: It is gone.
    """
    with database.transaction() as connection:
        found = searching(connection, study)
        counts = reading.count(connection, study.search_id)
        beside = _is_beside(connection, found, values)
        if beside:
            connection.execute(ADD, {"search_id": study.search_id})
        elif counts.counted + counts.pending >= found.budget:
            raise SteeringError(
                f"all {found.asked} trials of {study.name!r} are trained, under way or enqueued;"
                f" `trialfleet extend {study.name} --trials {found.asked + 1}` makes room"
            )
        template = enqueued(values, study.spec.agent, where="by hand")
        insert_trials(connection, study.search_id, [template])
    return counts.total


def _is_beside(connection: Connection, study: Study, values: Mapping[str, Any]) -> bool:
    if (visits := visited(connection, study)) is None:
        return False
    whole = study.asked == visits.most < study.spec.search.trials
    before = visits.most
    visits.enqueued(-1, encode(values, study.spec.agent))
    return whole and visits.most > before


def visited(connection: Connection, study: Study) -> Visits | None:
    """Which configurations the study's trials have, where its sampler tries each once."""
    visits = study.spec.search.sampler.visits(study.spec)
    if visits is None:
        return None
    sources = reading.sources(connection, study.search_id)
    failed = [
        each.number
        for each in sorted(sources, key=lambda each: each.position or 0)
        if each.state == "FAIL"
    ]
    for each in sources:
        if each.asked_for is not None:
            visits.enqueued(each.number, each.asked_for)
        elif not each.imported:
            visits.drawn(each.number, lambda: failed)
    return visits


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
