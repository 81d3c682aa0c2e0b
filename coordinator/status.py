"""Where a study stands: for `status`, the live display and plain lines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from coordinator.final import seed_groups
from trialfleet.store import workers
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reading
from trialfleet.store.trials.reading import Counts, Finished
from trialfleet.store.workers import LiveWorker


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A study at one moment."""

    study: Study
    search: Counts
    final: Counts | None  # None before the final stage
    final_trials: int  # how many the final stage has, or will have
    best: tuple[int, float] | None  # number and score of the search's best trial
    workers: list[LiveWorker]
    eta: float | None  # seconds; None when nothing has been measured yet

    @property
    def steps_per_second(self) -> float:
        """Agent-steps per second, all workers together."""
        return sum(worker.steps_per_second for worker in self.workers)


def snapshot(database: Database, study: Study) -> Snapshot:
    """Where `study` stands: all counts, times and workers are of one moment."""
    with database.one_moment() as connection:
        search = reading.count(connection, study.search_id)
        final = None if study.final_id is None else reading.count(connection, study.final_id)
        best = reading.best(connection, study.search_id)
        live = workers.live(connection, study.name)
        counted = reading.mean_seconds(connection, study.search_id, ["COMPLETE", "PRUNED"]) or 0.0
        complete = reading.mean_seconds(connection, study.search_id, ["COMPLETE"]) or 0.0
    final_trials = _final_trials(study)
    done = final.counted + final.failed if final else 0
    left = (study.budget - search.counted) * counted + (final_trials - done) * complete
    return Snapshot(
        study=study,
        search=search,
        final=final,
        final_trials=final.counted + final.failed + final.pending if final else final_trials,
        best=best,
        workers=live,
        eta=left / len(live) if live and counted and not study.ended else None,
    )


def finished(database: Database, study_id: int) -> list[Finished]:
    """The trials of one Optuna study that have ended, in the order they ended."""
    with database.transaction() as connection:
        return reading.finished(connection, study_id)


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
