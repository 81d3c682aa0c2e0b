"""The final stage: the best configurations again, on seeds that the search has never seen.

It is a second Optuna study, NAME.final, whose trials are enqueued with parameters and seeds, so
the same workers run it under the same rules. A configuration's fresh seeds are spread over trials
of as many agents as the search trained at once. In a race (`coordinator.race`) the first block is
enqueued here; in a fixed stage all seeds of all finalists are.
"""

from __future__ import annotations

import structlog
from optuna.trial import FrozenTrial
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from coordinator import judged
from coordinator.create import optuna_study
from coordinator.finalists import Finalist, choose_finalists, choose_racers, seed_groups
from coordinator.race import course, rounds
from coordinator.ranking import excess, ranked
from trialfleet.errors import StudyMismatchError
from trialfleet.seeds import fresh_seeds
from trialfleet.store import studies
from trialfleet.store.steering import decisions
from trialfleet.store.steering.decisions import Decided
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reading
from trialfleet.store.trials.optuna_rows import insert_trials
from trialfleet.store.trials.reading import Counts

log = structlog.get_logger()

# The budget of a search that was stopped is what it has come to.
BEGIN = text("""
    UPDATE fleet.studies SET stage = 'final', final_id = :final_id, budget = :counted
    WHERE search_id = :search_id
""")


def begin_final(database: Database, study: Study) -> list[Finalist]:
    """Enqueue the final stage, exactly once whoever calls and however often.

    Returns:
        The finalists; empty if the search has no COMPLETE trial that is feasible, or is not over
        after all, and then nothing was enqueued.
    """
    finalists, entries, templates = _begun(database, study)
    if not finalists:
        return []
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
            final_id = optuna_study(
                connection, study.spec, study.final_name, attributes={"digest": study.digest}
            )
            if entries:
                decisions.insert(connection, final_id, entries)
            insert_trials(connection, final_id, templates)
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
    if len(finalists) < study.spec.final.top:
        why = "no more configurations were completed that differ"
        if len(study.spec.search.objectives) > 1:
            why = "the search's Pareto front has no more configurations"
        elif study.spec.constraints:
            why += " and meet the constraints"
        log.info(
            f"fewer finalists than final.top: {why}",
            finalists=len(finalists),
            top=study.spec.final.top,
        )
    return finalists


def is_over(study: Study, counts: Counts) -> bool:
    """Whether the search has nothing under way and nothing to come."""
    enough = counts.counted >= study.budget or study.stopped is not None
    return enough and counts.pending == 0


def search_finalists(database: Database, study: Study) -> list[Finalist]:
    """The finalists of a study whose search is over; the same ones each time."""
    search = database.trials(study.search_id)
    if study.spec.races:
        return [finalist for finalist, _ in choose_racers(search, study.spec.final.top)]
    maximize = [objective.maximize for objective in study.spec.search.objectives]
    return choose_finalists(search, study.spec.final.top, maximize)


def _begun(
    database: Database, study: Study
) -> tuple[list[Finalist], list[Decided], list[FrozenTrial]]:
    """How a final stage begins: its finalists, who enters a race, and the trials."""
    spec = study.spec
    if spec.races:
        search = database.trials(study.search_id)
        chosen = choose_racers(search, spec.final.top)
        entries = rounds.entries(chosen)
        templates = course.to_come(study, entries, search) if entries else []
        return [finalist for finalist, _ in chosen], entries, templates
    finalists = search_finalists(database, study)
    # Those of former final stages are known: whoever extended the study has seen them.
    first = study.finals * spec.final.top
    return (
        finalists,
        [],
        [
            course.waiting(
                finalist.trial,
                {"finalist": finalist.rank, "source": finalist.number, "seeds": group},
            )
            for finalist in finalists
            for group in seed_groups(
                spec.handed(fresh_seeds(spec.seed, first + finalist.rank, spec.final.seeds)),
                spec.task.seeds,
            )
        ],
    )


def nothing_to_retrain(database: Database, study: Study) -> str | None:
    """Why a search that is over has no finalists; None if it has."""
    trials = database.trials(study.search_id)
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
