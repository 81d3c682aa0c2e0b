"""The final stage: the best configurations again, on seeds that the search has never seen.

It is a second Optuna study, NAME.final, whose trials are enqueued with parameters and seeds, so
the same workers run it under the same rules. A configuration's fresh seeds are spread over trials
of as many agents as the search trained at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from trialfleet.errors import StudyMismatchError
from trialfleet.seeds import fresh_seeds
from trialfleet.store import studies
from trialfleet.store.steering.importing import IMPORTED
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reading
from trialfleet.store.trials.optuna_rows import create_study, insert_waiting_trials
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
    score: float  # mean return over the search's seeds
    trial: FrozenTrial


def curve_area(points: dict[int, float]) -> float:
    """Mean height of a learning curve: the area under it, divided by its length.

    Args:
        points: Mean return by environment step; the curve is taken to start at zero.
    """
    area, previous_step, previous = 0.0, 0, 0.0
    for step, value in sorted(points.items()):
        area += (step - previous_step) * (previous + value) / 2
        previous_step, previous = step, value
    return area / previous_step if previous_step else 0.0


def choose_finalists(trials: list[FrozenTrial], top: int) -> list[Finalist]:
    """The `top` best distinct configurations among the COMPLETE trials that workers trained.

    Many reach a task's highest return, so ties go to the one that learned faster (the area under
    the evaluation curve), then to the earlier trial.
    """
    complete = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE and IMPORTED not in trial.user_attrs
    ]
    complete.sort(key=lambda t: (-(t.value or 0.0), -curve_area(t.intermediate_values), t.number))
    chosen: list[FrozenTrial] = []
    for trial in complete:
        if len(chosen) < top and all(trial.params != other.params for other in chosen):
            chosen.append(trial)
    return [
        Finalist(rank=rank, number=trial.number, score=trial.value or 0.0, trial=trial)
        for rank, trial in enumerate(chosen)
    ]


def seed_groups(seeds: list[int], size: int) -> list[list[int]]:
    """`seeds` in order, in as few groups of at most `size` as possible, of nearly equal length."""
    count = -(-len(seeds) // size)
    return [seeds[i * len(seeds) // count : (i + 1) * len(seeds) // count] for i in range(count)]


def begin_final(database: Database, study: Study) -> list[Finalist]:
    """Enqueue the final stage, exactly once whoever calls and however often.

    Returns:
        The finalists; empty if the search has no COMPLETE trial, or is not over after all, and then
        nothing was enqueued.
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
            final_id = create_study(connection, study.final_name)
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
    return choose_finalists(search.get_trials(deepcopy=False), study.spec.final.top)
