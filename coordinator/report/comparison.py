"""Two studies' winners on fresh seeds, as `trialfleet compare` shows them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from coordinator import judged
from coordinator.answer import row_of_winner
from coordinator.report.difference import Difference, compare
from trialfleet.errors import UsageError
from trialfleet.store.studies import Study
from trialfleet.study.measures import as_score


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The winner of one study beside that of another."""

    studies: tuple[Study, Study]
    winners: tuple[dict[str, Any], dict[str, Any]]  # what they came to on fresh seeds
    difference: Difference  # the first one's mean minus the second's
    unlike: list[str]  # fields of the task in which the studies differ

    @property
    def verdict(self) -> str:
        """The answer in a sentence."""
        first, second = (study.name for study in self.studies)
        if not self.difference.told_apart:
            return f"{first} and {second} cannot be told apart on these seeds"
        better, worse = (first, second) if self.difference.difference > 0 else (second, first)
        # Of a study that something else decided, the mean score is still what both have.
        plain = all(judged.by_mean_score(study.result or {}) for study in self.studies)
        by = as_score(abs(self.difference.difference), like=self.winners[0]["mean"])
        return f"{better} is better than {worse} by {by}{'' if plain else ' in mean score'}"

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {
            "studies": [
                {
                    "study": study.name,
                    "trial": winner["trial"],
                    "mean": winner["mean"],
                    "interval": winner["interval"],
                    "sd": _sd(winner["scores"]),
                    "search_score": winner["search_score"],
                    "scores": winner["scores"],
                    "seeds": winner["seeds"],
                }
                for study, winner in zip(self.studies, self.winners, strict=True)
            ],
            **asdict(self.difference),
            "told_apart": self.difference.told_apart,
            "method": self.difference.method,
            "verdict": self.verdict,
            "unlike": self.unlike,
        }


def compare_studies(first: Study, second: Study) -> Comparison:
    """Compare two studies that are done.

    Raises:
        UsageError: One of them has no winner, or both are the same.
    """
    if first.name == second.name:
        raise UsageError(f"{first.name!r} is compared with itself; name two studies")
    tasks = [study.spec.task.model_dump(mode="json") for study in (first, second)]
    finals = [study.spec.final.model_dump(mode="json") for study in (first, second)]
    unlike = [
        f"task.{key}: {value} and {tasks[1].get(key)}"
        for key, value in tasks[0].items()
        if tasks[1].get(key) != value and key not in ("max_seconds", "stall_seconds")
    ]
    if finals[0]["episodes"] != finals[1]["episodes"]:
        unlike.append(f"final.episodes: {finals[0]['episodes']} and {finals[1]['episodes']}")
    asked = [judged.asked(study.spec) for study in (first, second)]
    if asked[0] != asked[1]:
        unlike.append(f"search.objectives: {asked[0]} and {asked[1]}")
    winners = _winner(first), _winner(second)
    return Comparison(
        studies=(first, second),
        winners=winners,
        difference=compare(winners[0]["scores"], winners[1]["scores"]),
        unlike=unlike,
    )


def _winner(study: Study) -> dict[str, Any]:
    if study.result is None:
        raise UsageError(
            f"study {study.name!r} has no winner on fresh seeds (it is at {study.stage!r})"
        )
    # After a race, what the winner came to on the seeds that confirmed it.
    return study.result.get("confirmation") or row_of_winner(study.result)


def _sd(scores: list[float]) -> float | None:
    return float(np.std(scores, ddof=1)) if len(scores) > 1 else None
