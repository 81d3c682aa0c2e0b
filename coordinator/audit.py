"""What pruning has cost: how the pruned trials that were trained to their end compare."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reading


@dataclass(frozen=True, kw_only=True)
class Audited:
    """The pruned trials of a study that were trained to their end, beside its completed ones."""

    trained: int  # how many
    failed: int  # how many more were to be, and have no score: their training failed
    top: int  # final.top
    among_top: int  # of the trained, better than the `top`-th best completed trial
    better_than_best: int  # of the trained, better than all completed trials

    @property
    def text(self) -> str:
        """One line for people."""
        noun = "trial" if self.trained == 1 else "trials"
        line = (
            f"pruning audit: {self.trained} pruned {noun} trained to the end, "
            f"{self.among_top} of them among the best {self.top}, "
            f"{self.better_than_best} better than the best"
        )
        return f"{line}; {self.failed} more failed" if self.failed else line


def compare(
    completed: Sequence[float], audited: Sequence[float | None], *, top: int
) -> Audited | None:
    """Compare scores; None if no trial was audited.

    Args:
        completed: Scores of the COMPLETE trials.
        audited: Of the audited ones, None where the training failed.
        top: How many are the best. A tie with the last of them is not among them.
    """
    if not audited:
        return None
    scores = [score for score in audited if score is not None]
    ranked = sorted(completed, reverse=True)
    last = ranked[top - 1] if len(ranked) >= top else None
    return Audited(
        trained=len(scores),
        failed=len(audited) - len(scores),
        top=top,
        among_top=sum(last is None or score > last for score in scores),
        better_than_best=sum(not ranked or score > ranked[0] for score in scores),
    )


def read(database: Database, study: Study) -> Audited | None:
    """The audit of a study as far as it has come; None if it has none."""
    if not study.spec.search.audit:
        return None
    with database.one_moment() as connection:
        audits = reading.attributes(connection, study.search_id, "audit")
        values = [
            trial.values[0]
            for trial in reading.finished(connection, study.search_id)
            if trial.state == "COMPLETE" and trial.values
        ]
    found = [json.loads(audit) for audit in audits]
    scores = [audit.get("score") for audit in found if isinstance(audit, dict)]
    return compare(values, scores, top=study.spec.final.top)
