"""A study, read once: what plots, page, CSV, JSON and the comparison are made of.

They work on `StudyData` alone, so a report shows one moment, and a running study is asked once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from coordinator.ranking import excess, losses, ranked
from coordinator.retrain import without_replaced
from trialfleet.errors import NeverToShowError, NothingToShowError
from trialfleet.search.marks import IMPORTED
from trialfleet.store import metrics
from trialfleet.store.metrics import Curve
from trialfleet.store.steering import decisions
from trialfleet.store.steering.decisions import Decided
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials.attempts import TrialAttempt, read_attempts


@dataclass(frozen=True, kw_only=True)
class StudyData:
    """A study at one moment."""

    study: Study
    maximize: tuple[bool, ...]  # of each objective: whether more is better
    search: list[FrozenTrial]
    final: list[FrozenTrial]  # of the final stage, without those that another has replaced
    returns: dict[int, Curve]  # mean returns of each agent, by number of the search's trial
    final_returns: dict[int, Curve]  # the same of the final stage's trials
    attempts: list[TrialAttempt]  # at the trials of both, the oldest first
    read_at: datetime
    decisions: list[Decided] = field(default_factory=list)  # of a race, by block and finalist

    @property
    def result(self) -> dict[str, Any] | None:
        """What the final stage found."""
        return self.study.result

    def nothing_to_show(self, lack: str) -> NothingToShowError:
        """Why a plot cannot be drawn: what it lacks may still come, unless the study has ended."""
        if self.study.ended:
            how = "failed" if self.study.stage == "failed" else "ended"
            return NeverToShowError(f"{lack}, and the study has {how}")
        return NothingToShowError(f"{lack} yet")

    @property
    def finalists(self) -> list[dict[str, Any]]:
        """The finalists that stand, the best on fresh seeds first, then those that failed."""
        rows = self.result["finalists"] if self.result else []
        return sorted(
            rows,
            key=lambda row: (
                bool(row["failures"]),
                # Those that were longer in a race have shown more than a mean of few seeds.
                row.get("verdict", "wins") != "wins",
                -row.get("block", 0),
                row.get("excess", 0.0),
                losses(row["values"], self.maximize) if "values" in row else (),
                -row.get("mean", 0.0),
            ),
        )

    @property
    def winner(self) -> dict[str, Any] | None:
        """The finalist that won."""
        if self.result is None:
            return None
        rows: list[dict[str, Any]] = self.result["finalists"]
        return next(row for row in rows if row["rank"] == self.result["winner"])

    @cached_property
    def complete(self) -> list[FrozenTrial]:
        """The search's COMPLETE trials, the best first; see `ranked`."""
        return ranked(self.search, self.maximize)

    @property
    def best(self) -> FrozenTrial | None:
        """The best of them that meets the constraints."""
        return next((trial for trial in self.complete if excess(trial) == 0), None)

    @cached_property
    def trials(self) -> dict[tuple[int, int], FrozenTrial]:
        """The trials of both stages, by Optuna's study and number."""
        found = {(self.study.search_id, trial.number): trial for trial in self.search}
        if self.study.final_id is not None:
            found |= {(self.study.final_id, trial.number): trial for trial in self.final}
        return found

    def states(self) -> dict[str, int]:
        """How many of the search's trials are in each state; those that were imported left out."""
        own = [trial.state for trial in self.search if IMPORTED not in trial.user_attrs]
        return {
            state.name: own.count(state)
            for state in (
                TrialState.COMPLETE,
                TrialState.PRUNED,
                TrialState.FAIL,
                TrialState.RUNNING,
                TrialState.WAITING,
            )
        }


def read(database: Database, study: Study) -> StudyData:
    """Everything that a report shows of `study`.

    10,000 trials of 24 evaluations take a few seconds and some 200 MB.
    """
    search = database.open_study(study.search_id)
    with database.transaction() as connection:
        attempts = read_attempts(connection, study.optuna_ids)
        decided = decisions.read(connection, study.final_id) if study.final_id is not None else []
    final: list[FrozenTrial] = []
    final_returns: dict[int, Curve] = {}
    if study.final_id is not None:
        final = database.trials(study.final_id)
        final_returns = metrics.read(database, study.final_id, "return")
    return StudyData(
        study=study,
        maximize=tuple(each.name == "MAXIMIZE" for each in search.directions),
        search=database.trials(study.search_id),
        final=without_replaced(final),
        returns=metrics.read(database, study.search_id, "return"),
        final_returns=final_returns,
        attempts=attempts,
        read_at=datetime.now(UTC),
        decisions=decided,
    )


def seconds(attempts: Iterable[TrialAttempt]) -> float:
    """Worker-seconds of these attempts."""
    return sum(attempt.seconds for attempt in attempts)
