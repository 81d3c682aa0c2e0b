"""What happens to a study, as notices: its start, each new best, each failed trial, its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from coordinator.answer import answer
from coordinator.status import best_trial
from trialfleet.escape import printable
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import news, reading
from trialfleet.study.measures import decimal

# Takes a notice at once: `coordinator.monitoring.webhook.Webhook.send`.
Send = Callable[[Mapping[str, Any]], object]


class Notices:
    """Tells what is new at each look. What happened while nobody looked is not told later.

    Each notice has `event`, `study`, `time` and `text`, a line for people, and what belongs to its
    event; docs/monitoring.md lists that.

    Args:
        database: The coordinator's.
        send: Called with each notice.
    """

    def __init__(self, database: Database, send: Send) -> None:
        self._database, self._send = database, send
        self._begun = False
        self._ended = False
        self._best: float | None = None
        self._stopped: str | None = None
        self._positions: dict[int, int] = {}  # of Optuna's studies: the last trial looked at

    def begin(self, study: str) -> None:
        """Tell that the study runs, unless it has ended or this was told before."""
        if not self._begun:
            self._begin(studies.find(self._database, study))

    def look(self, study: Study) -> None:
        """Tell what has happened since the last look.

        It may be repeated after an outage: nothing is told twice.
        """
        for stage, study_id in (("search", study.search_id), ("final", study.final_id)):
            if study_id is not None:
                self._look_at(study, stage, study_id)
        if study.stopped is not None and self._stopped is None:
            text = f"the search ends early: {printable(study.stopped)}"
            self._tell("stop", study, text, reason=study.stopped)
        self._stopped = study.stopped
        if study.ended and not self._ended:
            self._end(study)
        self._ended = study.ended  # an extended study goes on

    def _begin(self, study: Study) -> None:
        with self._database.one_moment() as connection:
            for study_id in study.optuna_ids:
                self._positions[study_id] = news.position(connection, study_id)
            counts = reading.count(connection, study.search_id)
            best = best_trial(connection, study)
        self._best = best[1] if best else None
        self._begun, self._ended, self._stopped = True, study.ended, study.stopped
        if study.ended:
            return
        again = counts.total > 0
        self._tell(
            "start",
            study,
            f"{'goes on' if again else 'begins'}: {counts.counted} of {study.budget} trials",
            stage=study.stage,
            resumed=again,
            counted=counts.counted,
            budget=study.budget,
        )

    def _look_at(self, study: Study, stage: str, study_id: int) -> None:
        with self._database.transaction() as connection:
            known = self._positions.get(study_id, 0)
            ended = news.ended_after(connection, study_id, known)
        for trial in ended:
            self._positions[study_id] = trial.position
            if trial.state == "FAIL":
                reason = printable(trial.reason or "no reason")
                self._tell(
                    "failure",
                    study,
                    f"{stage} trial {trial.number} failed: {reason}",
                    stage=stage,
                    trial=trial.number,
                    reason=trial.reason,
                )
            elif trial.state != "COMPLETE" or not trial.feasible:
                continue
            elif stage == "search" and trial.value is not None:
                before = self._best
                objective = study.spec.search.objectives[0]
                more, less = trial.value, before if before is not None else 0.0
                if before is None or (more > less if objective.maximize else more < less):
                    self._best = trial.value
                    self._tell(
                        "best",
                        study,
                        f"new best {objective.told(trial.value)} (trial {trial.number})",
                        trial=trial.number,
                        score=trial.value,
                        before=before,
                    )

    def _end(self, study: Study) -> None:
        with self._database.transaction() as connection:
            counts = reading.count(connection, study.search_id)
        if study.result is None:
            outcome, winner = f"failed: {printable(study.reason or 'no reason')}", None
        else:
            found = answer(study.result)
            winner = {
                "trial": found.trial,
                "mean": found.mean,
                "interval": found.certainty.ends and [*found.certainty.ends],
                "interval_told": found.interval_told,
                "search_score": found.search_score,
                "confirmed": found.confirmed,
                "solved": found.solved,
                "until": found.until,
            }
            mean = decimal(found.mean, 2)
            outcome = f"done: trial {found.trial} wins, mean {mean} on {found.seeds_told}"
            if found.until:
                outcome += f"; {found.until_told}"
            if found.solved:
                outcome += f"; {found.solved_told}"
        self._tell(
            "end",
            study,
            outcome,
            stage=study.stage,
            reason=study.reason,
            seconds=round(study.seconds, 1),
            counted=counts.counted,
            failed=counts.failed,
            budget=study.budget,
            winner=winner,
        )

    def _tell(self, event: str, study: Study, text: str, **more: Any) -> None:
        self._send(
            {
                "event": event,
                "study": study.name,
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "text": f"{study.name}: {text}",
                **more,
            }
        )
