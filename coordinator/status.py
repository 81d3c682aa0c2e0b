"""Where a study stands, in one consistent look: for `status`, the live display and plain lines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import text

from coordinator.final import seed_groups
from coordinator.watch import COUNT, Counts
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study

BEST = text("""
    SELECT t.number, v.value FROM public.trials t JOIN public.trial_values v USING (trial_id)
    WHERE t.study_id = :study_id AND t.state = 'COMPLETE'
    ORDER BY v.value DESC, t.number LIMIT 1
""")
# A worker that has said nothing for two leases' time is not shown: it is gone, or will be reaped.
WORKERS = text("""
    SELECT worker, host, trial_number, step, steps_per_second,
           extract(epoch FROM now() - seen_at) AS silent
    FROM fleet.workers
    WHERE study = :name AND ended_at IS NULL AND seen_at > now() - interval '1 minute'
    ORDER BY started_at, worker
""")
MEAN_SECONDS = text("""
    SELECT avg(extract(epoch FROM datetime_complete - datetime_start)) FROM public.trials
    WHERE study_id = :study_id AND state = ANY(CAST(:states AS public.trialstate[]))
""")
FINISHED = text("""
    SELECT t.number, t.state::text AS state, v.value, r.value_json AS reason
    FROM public.trials t
    LEFT JOIN public.trial_values v USING (trial_id)
    LEFT JOIN public.trial_user_attributes r ON r.trial_id = t.trial_id AND r.key = 'reason'
    WHERE t.study_id = :study_id AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')
    ORDER BY t.datetime_complete, t.number
""")


@dataclass(frozen=True, kw_only=True)
class WorkerLine:
    """One live worker."""

    name: str
    host: str
    trial: int | None  # its trial's number; None when idle
    step: int  # environment steps of each agent of that trial
    steps_per_second: float  # over all agents of that trial; 0 before the first report
    silent: float  # seconds since its last heartbeat


@dataclass(frozen=True, kw_only=True)
class Finished:
    """One trial that has ended."""

    number: int
    state: str
    value: float | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A study at one moment."""

    study: Study
    search: Counts
    final: Counts | None  # None before the final stage
    final_trials: int  # how many the final stage has, or will have
    best: tuple[int, float] | None  # number and score of the search's best trial
    workers: list[WorkerLine]
    eta: float | None  # seconds; None when nothing has been measured yet

    @property
    def steps_per_second(self) -> float:
        """Agent-steps per second, all workers together."""
        return sum(worker.steps_per_second for worker in self.workers)


def snapshot(database: Database, study: Study) -> Snapshot:
    """Look at `study`."""
    with database.transaction() as connection:
        search = Counts(**connection.execute(COUNT, {"study_id": study.search_id}).one()._mapping)
        final = None
        if study.final_id is not None:
            row = connection.execute(COUNT, {"study_id": study.final_id}).one()
            final = Counts(**row._mapping)
        best = connection.execute(BEST, {"study_id": study.search_id}).one_or_none()
        workers = [
            WorkerLine(
                name=row.worker,
                host=row.host,
                trial=row.trial_number,
                step=row.step or 0,
                steps_per_second=row.steps_per_second or 0.0,
                silent=float(row.silent),
            )
            for row in connection.execute(WORKERS, {"name": study.name})
        ]

        def mean_seconds(*states: str) -> float:
            values = {"study_id": study.search_id, "states": list(states)}
            return float(connection.scalar(MEAN_SECONDS, values) or 0.0)

        counted = mean_seconds("COMPLETE", "PRUNED")
        complete = mean_seconds("COMPLETE")
    final_trials = _final_trials(study)
    done = final.counted + final.failed if final else 0
    left = (study.budget - search.counted) * counted + (final_trials - done) * complete
    return Snapshot(
        study=study,
        search=search,
        final=final,
        final_trials=final.counted + final.failed + final.pending if final else final_trials,
        best=(best.number, best.value) if best else None,
        workers=workers,
        eta=left / len(workers) if workers and counted and not study.ended else None,
    )


def finished(database: Database, study_id: int) -> list[Finished]:
    """The trials of one Optuna study that have ended, in the order they ended."""
    with database.transaction() as connection:
        rows = connection.execute(FINISHED, {"study_id": study_id}).all()
    return [
        Finished(**{**row._mapping, "reason": json.loads(row.reason) if row.reason else None})
        for row in rows
    ]


def _final_trials(study: Study) -> int:
    spec = study.spec
    groups = seed_groups(list(range(spec.final.seeds)), spec.task.seeds)
    return spec.final.top * len(groups)


def as_dict(shot: Snapshot) -> dict[str, Any]:
    """A snapshot as JSON."""
    return {
        "study": shot.study.name,
        "stage": shot.study.stage,
        "budget": shot.study.budget,
        "seconds": round(shot.study.seconds, 1),
        "reason": shot.study.reason,
        "search": {**asdict(shot.search), "counted": shot.search.counted},
        "final": asdict(shot.final) if shot.final else None,
        "final_trials": shot.final_trials,
        "best": {"trial": shot.best[0], "score": shot.best[1]} if shot.best else None,
        "workers": [asdict(worker) for worker in shot.workers],
        "steps_per_second": shot.steps_per_second,
        "eta": shot.eta,
    }
