"""The final stage: the best configurations again, on seeds that the search has never seen.

It is a second Optuna study, NAME.final, whose trials are enqueued with parameters and seeds, so
the same workers run it under the same rules. A configuration's fresh seeds are spread over trials
of as many agents as the search trained at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from coordinator import judged
from coordinator.create import optuna_study
from coordinator.ranking import excess, front, losses, ranked, spread_out
from trialfleet.errors import StudyMismatchError
from trialfleet.seeds import fresh_seeds
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reading
from trialfleet.store.trials.optuna_rows import insert_waiting_trials
from trialfleet.store.trials.reading import Counts

# The budget of a search that was stopped is what it has come to.
BEGIN = text("""
    UPDATE fleet.studies SET stage = 'final', final_id = :final_id, budget = :counted
    WHERE search_id = :search_id
""")


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A configuration that the search found."""

    rank: int  # 0 is the search's best
    number: int  # its trial in the search
    values: list[float]  # of each objective, over the search's seeds
    trial: FrozenTrial


def choose_finalists(
    trials: list[FrozenTrial], top: int, maximize: Sequence[bool] = (True,)
) -> list[Finalist]:
    """The `top` best distinct configurations among the COMPLETE trials that are feasible.

    See `ranked` for which is better. With several objectives, they are those that no other one
    dominates, and where these are more than `top`, those that are far apart (`spread_out`); the
    best by the first objective comes first.

    Args:
        trials: Of the search.
        top: At most so many.
        maximize: Of each objective, whether more is better.
    """
    candidates = [trial for trial in ranked(trials, maximize) if excess(trial) == 0]
    several = len(maximize) > 1
    if several:
        points = [losses(trial.values, maximize) for trial in candidates]
        candidates = [candidates[index] for index in front(points)]
    chosen: list[FrozenTrial] = []
    for trial in candidates:
        new = all(trial.params != other.params for other in chosen)
        if new and (several or len(chosen) < top):
            chosen.append(trial)
    if several:
        points = [losses(trial.values, maximize) for trial in chosen]
        chosen = [chosen[index] for index in spread_out(points, top)]
    return [
        Finalist(rank=rank, number=trial.number, values=trial.values, trial=trial)
        for rank, trial in enumerate(chosen)
    ]


def seed_groups(seeds: list[int], size: int) -> list[list[int]]:
    """`seeds` in order, in as few groups of at most `size` as possible, of nearly equal length."""
    count = -(-len(seeds) // size)
    return [seeds[i * len(seeds) // count : (i + 1) * len(seeds) // count] for i in range(count)]


def begin_final(database: Database, study: Study) -> list[Finalist]:
    """Enqueue the final stage, exactly once whoever calls and however often.

    Returns:
        The finalists; empty if the search has no COMPLETE trial that is feasible, or is not over
        after all, and then nothing was enqueued.
    """
    finalists = search_finalists(database, study)
    if not finalists:
        return []
    spec = study.spec
    templates = [
        optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=finalist.trial.params,
            distributions=finalist.trial.distributions,
            user_attrs={"finalist": finalist.rank, "source": finalist.number, "seeds": group},
        )
        for finalist in finalists
        for group in seed_groups(
            # Those of former final stages are known: whoever extended the study has seen them.
            fresh_seeds(spec.seed, study.finals * spec.final.top + finalist.rank, spec.final.seeds),
            spec.task.seeds,
        )
    ]
    try:
        with database.transaction() as connection:
            # Optuna's study, its trials and the stage together, under the study's lock: a
            # coordinator that dies here leaves all or nothing, and a second one finds the stage
            # changed.
            found = studies.lock(connection, study)
            counts = reading.count(connection, study.search_id)
            if found.stage != "search":
                return finalists
            changed = (found.budget, found.stopped) != (study.budget, study.stopped)
            if changed or not is_over(found, counts):
                return []
            final_id = optuna_study(connection, spec, study.final_name)
            insert_waiting_trials(connection, database, final_id, templates)
            connection.execute(
                BEGIN,
                {
                    "search_id": study.search_id,
                    "final_id": final_id,
                    "counted": counts.counted,
                },
            )
    except IntegrityError:
        raise StudyMismatchError(
            f"an Optuna study called {study.final_name!r} exists that Trialfleet did not create"
        ) from None
    return finalists


def is_over(study: Study, counts: Counts) -> bool:
    """Whether the search has nothing under way and nothing to come."""
    enough = counts.counted >= study.budget or study.stopped is not None
    return enough and counts.pending == 0


def search_finalists(database: Database, study: Study) -> list[Finalist]:
    """The finalists of a study whose search is over; the same ones each time."""
    search = database.optuna_study(study.name)
    maximize = [objective.maximize for objective in study.spec.search.objectives]
    return choose_finalists(search.get_trials(deepcopy=False), study.spec.final.top, maximize)


def nothing_to_retrain(database: Database, study: Study) -> str | None:
    """Why a search that is over has no finalists; None if it has."""
    trials = database.optuna_study(study.name).get_trials(deepcopy=False)
    complete = ranked(trials, [each.maximize for each in study.spec.search.objectives])
    stopped = f" (the search was stopped: {study.stopped})" if study.stopped else ""
    if not complete:
        return f"no trial was completed, so there is nothing to retrain{stopped}"
    closest = complete[0]
    if excess(closest) == 0:
        return None
    missed = judged.missed(study.spec.constraints, closest.user_attrs.get("constraints", {}))
    return (
        f"none of {len(complete)} completed trials meets the constraints; "
        f"trial {closest.number} came closest: {missed}{stopped}"
    )
