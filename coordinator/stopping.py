"""Whether a rule of the study file ends the search, judged by the database alone."""

from __future__ import annotations

from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import progress


def due(database: Database, study: Study) -> str | None:
    """Why the search is to end now; None if it is not.

    A target is reached by a trial that is COMPLETE, and that meets the study's constraints: what it
    was measured at on the way counts for nothing. Nor is there an improvement before such a trial.
    """
    rules, study_id = study.spec.stop, study.search_id
    if not study.rules or study.paused:
        return None
    with database.one_moment() as connection:
        if rules.target is not None or rules.no_improvement is not None:
            best = progress.best(connection, study_id, constrained=bool(study.spec.constraints))
            if best is None:
                pass
            elif rules.target is not None and best.sign * (best.value - rules.target) >= 0:
                return f"trial {best.number} reached {best.value:g}, the target is {rules.target:g}"
            elif rules.no_improvement is not None:
                since = progress.counted_since(connection, study_id, best.position)
                if since >= rules.no_improvement:
                    return f"no improvement in {since} trials since trial {best.number}"
        if rules.seconds is not None:
            seconds = progress.seconds(connection, study_id)
            if seconds >= rules.seconds:
                return f"it has taken {seconds:,.0f} s, stop.seconds is {rules.seconds:g}"
        if rules.steps is not None:
            steps = progress.steps(connection, study_id, seeds=study.spec.task.seeds)
            if steps >= rules.steps:
                return f"it has taken {steps:,} environment steps, stop.steps is {rules.steps:,}"
    return None
