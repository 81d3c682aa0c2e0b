"""Where a study stands: for `status`, the live display, plain lines and the metrics."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection

from coordinator import judged
from coordinator.answer import answer, row_of_winner
from coordinator.race.standing import RaceStands, most_trials, race_stands, trials_to_come
from trialfleet.store import workers
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import progress, reading
from trialfleet.store.trials.reading import Counts, Finished
from trialfleet.store.workers import LiveWorker
from trialfleet.study.measures import as_score
from trialfleet.study.task import Task


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A trial that has failed."""

    stage: str  # search or final
    number: int
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A study at one moment."""

    study: Study
    search: Counts
    final: Counts | None  # None before the final stage
    final_trials: int  # how many the final stage has, or will have
    best: tuple[int, float] | None  # number and first value of the search's best trial
    workers: list[LiveWorker]
    eta: float | None  # seconds; None when nothing has been measured yet
    # where no COMPLETE trial meets the constraints: which came closest, and what they came to
    closest: tuple[int, dict[str, float]] | None = None
    race: RaceStands | None = None  # of a final stage that is a race, while it runs
    lost: int = 0  # attempts that ended because their worker was lost
    failures: list[Failure] = field(default_factory=list)  # the latest of each stage, newest first

    final_most: int = 0  # how many it has at most: a race is seldom trained to its end

    @property
    def final_told(self) -> str:
        """How far the final stage is: of so many trials, or of at most so many; or that there
        was none."""
        if self.final is None and self.study.ended:
            return "none"
        done = self.final.counted if self.final else 0
        certain = self.study.ended or (self.final is not None and not self.study.spec.races)
        return f"{done}/{self.final_trials}" if certain else f"{done} of at most {self.final_most}"

    @property
    def best_told(self) -> str | None:
        """The search's best trial so far, for people, or why there is none; at the end the answer.

        What a search found is the luckiest of many: once there is a number to rely on, only that.
        """
        if self.study.result is not None:
            return _answer_told(self.study.result)
        if self.closest is not None:
            number, found = self.closest
            missed = judged.missed(self.study.spec.constraints, found)
            return f"no trial meets the constraints yet, trial {number} is closest: {missed}"
        if self.best is None:
            return None
        number, value = self.best
        return f"best {self.study.spec.search.objectives[0].told(value)} (trial {number})"

    @property
    def steps_per_second(self) -> float:
        """Agent-steps per second, all workers together."""
        return sum(worker.steps_per_second for worker in self.workers)


def _answer_told(result: dict[str, Any]) -> str:
    found = answer(result)
    came_to = judged.told(result, row_of_winner(result)) or f"mean {as_score(found.mean)}"
    return f"winner: trial {found.trial}, {came_to} over {found.seeds_told}"


def snapshot(database: Database, study: Study) -> Snapshot:
    """Where `study` stands: all counts, times and workers are of one moment."""
    failures: list[Failure] = []
    with database.one_moment() as connection:
        search = reading.count(connection, study.search_id)
        final = None if study.final_id is None else reading.count(connection, study.final_id)
        best = best_trial(connection, study)
        closest = None
        if best is None and study.spec.constraints:
            closest = reading.closest(connection, study.search_id)
        race = None if study.ended else race_stands(connection, study)
        live = workers.live(connection, study.name)
        counted = reading.mean_seconds(connection, study.search_id, ["COMPLETE", "PRUNED"])
        complete = reading.mean_seconds(connection, study.search_id, ["COMPLETE"])
        lost = reading.lost_attempts(connection, study.optuna_ids)
        for stage, study_id in (("final", study.final_id), ("search", study.search_id)):
            if study_id is not None:
                for number, reason in reading.last_reasons(connection, study_id):
                    failures.append(Failure(stage=stage, number=number, reason=reason))
    to_come = trials_to_come(study, race)
    done = final.counted + final.failed if final else 0
    left_of_final = to_come - done if race is None else to_come + (final.pending if final else 0)
    to_search = study.budget - search.counted if study.stopped is None else search.pending
    left = [to_search, left_of_final]
    return Snapshot(
        study=study,
        search=search,
        final=final,
        final_most=most_trials(study, race),
        final_trials=final.counted + final.failed + final.pending if final else to_come,
        best=best,
        closest=closest,
        race=race,
        workers=live,
        eta=None
        if study.ended or study.paused
        else time_left(study.spec.task, left, [counted, complete], live),
        lost=lost,
        failures=failures,
    )


def best_trial(connection: Connection, study: Study) -> tuple[int, float] | None:
    """Number and first value of the search's best trial so far."""
    found = progress.best(connection, study.search_id, constrained=bool(study.spec.constraints))
    return None if found is None else (found.number, found.value)


def time_left(
    task: Task, left: list[int], seconds: list[float | None], live: list[LiveWorker]
) -> float | None:
    """Seconds until search and final stage are over, if the workers that are there now stay.

    Args:
        task: What a trial is.
        left: Trials that are to come or under way: of the search, and of the final stage.
        seconds: What a trial of each has taken so far; None where none has ended.
        live: The workers.

    Returns:
        None if nothing is known yet: no worker is there, or nothing was measured.
    """
    paces = [worker.steps_per_second for worker in live if worker.steps_per_second > 0]
    # Before any trial has ended: as if none were pruned.
    whole = task.seeds * task.train_steps / (sum(paces) / len(paces)) if paces else None
    running = [worker.step / task.train_steps for worker in live if worker.trial is not None]
    total = 0.0
    for count, measured in zip(left, seconds, strict=True):
        each = measured or seconds[0] or whole
        if count <= 0:
            continue
        if not live or each is None:
            return None
        # What the running trials have behind them, as far as trials of this stage are left at all.
        behind = sum(running[:count])
        running = []
        total += (count - behind) * each / min(count, len(live))
    return total


def steered(study: Study) -> list[str]:
    """What people have decided about the study's course, a line each; none for most studies."""
    lines = []
    if study.priority != 1:
        lines.append(f"priority {study.priority}")
    if study.paused:
        lines.append("paused: no trial begins until it is resumed")
    if study.stopped is not None:
        going = "the search is being stopped" if study.stage == "search" else "search stopped"
        lines.append(f"{going}: {study.stopped}")
    if study.imported:
        lines.append(f"{study.imported} imported trials beside the budget")
    if study.finals:
        names = ", ".join(f"{study.final_name}.{n + 1}" for n in range(study.finals))
        lines.append(f"former final stages: {names}")
    return lines


def finished(database: Database, study_id: int) -> list[Finished]:
    """The trials of one Optuna study that have ended, in the order they ended."""
    with database.transaction() as connection:
        return reading.finished(connection, study_id)


def as_dict(shot: Snapshot) -> dict[str, Any]:
    """A snapshot as JSON. Scripts rely on these names: keys are added, none is changed."""
    task = shot.study.spec.task
    return {
        "study": shot.study.name,
        "stage": shot.study.stage,
        "budget": shot.study.budget,
        "seconds": round(shot.study.seconds, 1),
        "reason": shot.study.reason,
        "priority": shot.study.priority,
        "paused": shot.study.paused,
        "stopped": shot.study.stopped,
        "imported": shot.study.imported,
        "former_finals": shot.study.finals,
        "search": {**asdict(shot.search), "counted": shot.search.counted},
        "final": asdict(shot.final) if shot.final else None,
        "final_trials": shot.final_trials,
        "race": asdict(shot.race) if shot.race else None,
        "objectives": [*map(str, shot.study.spec.search.objectives)],
        "best": {"trial": shot.best[0], "score": shot.best[1]} if shot.best else None,
        "closest": (
            {"trial": shot.closest[0], "constraints": shot.closest[1]} if shot.closest else None
        ),
        "workers": [
            {
                **asdict(worker),
                "segment": None if worker.trial is None else segment(task, worker.step),
                "segments": task.segments,
            }
            for worker in shot.workers
        ],
        "steps_per_second": shot.steps_per_second,
        "eta": shot.eta,
        "attempts_lost": shot.lost,
        "failures": [
            {"stage": each.stage, "trial": each.number, "reason": each.reason}
            for each in shot.failures
        ],
    }


def segment(task: Task, step: int) -> int:
    """The segment that an agent at `step` is in, from 1."""
    return min(step // task.eval_every + 1, task.segments)
