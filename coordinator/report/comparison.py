"""Studies' winners on fresh seeds, as `trialfleet compare` shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from coordinator import judged
from coordinator.answer import Answer, answer
from coordinator.report.difference import ERROR, Difference, compare, holm, least_p
from trialfleet.errors import SteeringError, UsageError
from trialfleet.store.studies import Study
from trialfleet.study.measures import as_score

_UNLIKE = ("max_seconds", "stall_seconds", "returns")  # fields that change no score


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One study beside another."""

    studies: tuple[Study, Study]
    answers: tuple[Answer, Answer]
    difference: Difference  # the first one's mean minus the second's

    @property
    def verdict(self) -> str:
        """What the seeds say, in a sentence."""
        first, second = (study.name for study in self.studies)
        if not self.difference.told_apart:
            sizes = [len(each.scores) for each in self.answers]
            least = least_p(*sizes)
            lack = f": {sizes[0]} and {sizes[1]} come to no p below {least:.2g}"
            lack = "" if least <= ERROR else lack
            return f"{first} and {second} cannot be told apart on these seeds{lack}"
        better, worse = (first, second) if self.difference.difference > 0 else (second, first)
        # Of a study that something else decided, the mean score is still what both have.
        plain = all(judged.by_mean_score(study.result or {}) for study in self.studies)
        by = as_score(abs(self.difference.difference), like=self.answers[0].mean)
        return f"{better} is better than {worse} by {by}{'' if plain else ' in mean score'}"

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {
            **asdict(self.difference),
            "told_apart": self.difference.told_apart,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The winners of two studies or more, each beside every other."""

    studies: Sequence[Study]
    answers: Sequence[Answer]  # what their winners came to on fresh seeds
    pairs: Sequence[Pair]
    unlike: Sequence[str]  # fields of the task in which the studies differ
    chosen: Sequence[str]  # studies whose winner was chosen by these same seeds

    @property
    def method(self) -> str:
        """How p was found."""
        exact = next((pair for pair in self.pairs if not pair.difference.exact), self.pairs[0])
        several = len(self.pairs) > 1
        text = exact.difference.method
        return f"{text} Corrected for {len(self.pairs)} pairs (Holm 1979)." if several else text

    @property
    def warnings(self) -> list[str]:
        """What else to know before believing it, a line each."""
        lines = [f"not the same task: {'; '.join(self.unlike)}"] if self.unlike else []
        if self.chosen:
            lines.append(
                f"the winner of {' and '.join(self.chosen)} was chosen among finalists by these "
                "seeds, so its mean is a little optimistic, and p too small"
            )
        return lines

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON; of two studies, their only pair is repeated at the top."""
        pairs = [
            {"studies": [study.name for study in pair.studies], **pair.as_dict()}
            for pair in self.pairs
        ]
        return {
            "studies": [
                {
                    "study": study.name,
                    "trial": found.trial,
                    "mean": found.mean,
                    **found.certainty.as_row(),
                    "sd": _sd(found.scores),
                    "search_score": found.search_score,
                    "scores": found.scores,
                    "seeds": found.seeds,
                    "confirmed": found.confirmed,
                }
                for study, found in zip(self.studies, self.answers, strict=True)
            ],
            "pairs": pairs,
            **(self.pairs[0].as_dict() if len(pairs) == 1 else {}),
            "method": self.method,
            "unlike": [*self.unlike],
            "chosen_by_these_seeds": [*self.chosen],
        }


def compare_studies(*studies: Study) -> Comparison:
    """Compare two studies that are done, or more: each with every other, p corrected by Holm.

    Raises:
        SteeringError: One of them has no winner.
        UsageError: One of them is there twice.
    """
    names = [study.name for study in studies]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name!r} is compared with itself; name two studies")
    answers = [_answer(study) for study in studies]
    found = [*combinations(range(len(studies)), 2)]
    differences = [compare(answers[a].scores, answers[b].scores) for a, b in found]
    corrected = holm([each.p for each in differences])
    unlike: dict[str, None] = {}
    for a, b in found:
        unlike |= dict.fromkeys(_unlike(studies[a], studies[b]))
    return Comparison(
        studies=studies,
        answers=answers,
        pairs=[
            Pair(
                studies=(studies[a], studies[b]),
                answers=(answers[a], answers[b]),
                difference=replace(each, p=p),
            )
            for (a, b), each, p in zip(found, differences, corrected, strict=True)
        ],
        unlike=[*unlike],
        chosen=[
            study.name
            for study, each in zip(studies, answers, strict=True)
            if not each.confirmed and study.result and len(study.result["finalists"]) > 1
        ],
    )


def _unlike(first: Study, second: Study) -> list[str]:
    tasks = [study.spec.task.model_dump(mode="json") for study in (first, second)]
    unlike = [
        f"task.{key}: {value} and {tasks[1].get(key)}"
        for key, value in tasks[0].items()
        if tasks[1].get(key) != value and key not in _UNLIKE
    ]
    episodes = [study.spec.final.episodes for study in (first, second)]
    if episodes[0] != episodes[1]:
        unlike.append(f"final.episodes: {episodes[0]} and {episodes[1]}")
    asked = [judged.asked(study.spec) for study in (first, second)]
    if asked[0] != asked[1]:
        unlike.append(f"search.objectives: {asked[0]} and {asked[1]}")
    return unlike


def _answer(study: Study) -> Answer:
    if study.result is None:
        raise SteeringError(
            f"study {study.name!r} has no winner on fresh seeds (it is at {study.stage!r})"
        )
    # After a race, what the winner came to on the seeds that confirmed it.
    return answer(study.result)


def _sd(scores: Sequence[float]) -> float | None:
    return float(np.std(scores, ddof=1)) if len(scores) > 1 else None
