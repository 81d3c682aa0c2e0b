"""Which trials are shown, and what of their measurements is a point of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from trialfleet.errors import UsageError
from trialfleet.search.marks import is_ours
from trialfleet.store.studies import Study
from trialfleet.store.trials import following
from trialfleet.store.trials.following import Watched

# What people know these metrics by; another algorithm's own keep their names.
TAGS = {
    "episode_return": "Episodic Score",
    "return": "Evaluation Score",
    "length": "Episode Length",
    "loss": "Loss",
    "q_mean": "Mean Q",
    "epsilon": "Epsilon",
    "steps_per_second": "Steps per Second",
}
# Tags that are shown with the lowest and the highest seed's value.
BANDS = {
    tag: (f"band/{tag} lowest seed", f"band/{tag} highest seed")
    for tag in (TAGS["episode_return"], TAGS["return"])
}
BEST = 20  # trials shown beside those that run and the finalists
_FINAL = "final-trial-"
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the user wants to see."""

    numbers: frozenset[int] | None = None  # these trials of the search; None for the usual choice
    every: bool = False  # all trials
    seeds: bool = False  # a run for each seed

    @classmethod
    def parse(cls, trials: str | None, *, seeds: bool) -> Choice:
        """From `--trials`: None, "all", or numbers between commas.

        Raises:
            UsageError: It is something else.
        """
        if trials is None or trials.strip() == "all":
            return cls(every=trials is not None, seeds=seeds)
        parts = [part.strip() for part in trials.split(",")]
        if not all(_NUMBER.fullmatch(part) for part in parts):
            raise UsageError(f'--trials: {trials!r} is neither "all" nor numbers like 1,5,7')
        return cls(numbers=frozenset(map(int, parts)), seeds=seeds)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Trials that are one run: one of the search, or all of a finalist's in the final stage."""

    name: str
    members: tuple[Watched, ...]
    weights: tuple[int, ...]  # seeds of each member

    @property
    def finished(self) -> bool:
        """Whether none of them will ever change again."""
        return all(member.finished for member in self.members)

    @property
    def failed(self) -> bool:
        """Whether one of them failed."""
        return any(member.state == "FAIL" for member in self.members)

    @property
    def fences(self) -> tuple[int, ...]:
        """Changes whenever one of them begins anew."""
        return tuple(member.fence for member in self.members)

    @property
    def score(self) -> float | None:
        """The mean over all seeds; None while there is none."""
        values = [member.value for member in self.members]
        if any(value is None for value in values):
            return None
        return float(np.average([float(value or 0.0) for value in values], weights=self.weights))


def choose(connection: Connection, study: Study, choice: Choice) -> list[Group]:
    """The runs to show, as they stand now."""
    finalists = _finalists(connection, study)
    if choice.numbers is not None:
        chosen = following.watched(connection, study.search_id, numbers=choice.numbers)
        finalists = {n: group for n, group in finalists.items() if n in choice.numbers}
    elif choice.every:
        chosen = following.watched(connection, study.search_id, every=True)
    else:
        chosen = following.watched(
            connection,
            study.search_id,
            numbers=finalists,
            running=True,
            best=BEST,
            maximize=study.spec.search.objectives[0].maximize,
        )
    seeds = study.spec.task.seeds
    search = [
        Group(name=f"trial-{trial.number:04}", members=(trial,), weights=(seeds,))
        for trial in chosen
    ]
    return [*search, *finalists.values()]


def _finalists(connection: Connection, study: Study) -> dict[int, Group]:
    """Each finalist's trials of the final stage, by its number in the search."""
    if study.final_id is None:
        return {}
    trials = following.watched(connection, study.final_id, every=True)
    keys = ("finalist", "source", "seeds", "replaces")
    about = following.attributes(connection, [trial.trial_id for trial in trials], keys)
    members: dict[int, list[Watched]] = {}
    for trial in trials:
        given = about.get(trial.trial_id, {})
        # A replacement repeats, to the bit, what is there already.
        if "replaces" not in given and is_ours(given):
            members.setdefault(given["source"], []).append(trial)
    return {
        source: Group(
            name=f"{_FINAL}{source:04}",
            members=tuple(group),
            weights=tuple(len(about[trial.trial_id]["seeds"]) for trial in group),
        )
        for source, group in sorted(members.items())
    }


def mean_point(metrics: Mapping[str, list[float]]) -> dict[str, float]:
    """A run's point from what its seeds measured at a step: their mean, and the band around it."""
    point: dict[str, float] = {}
    for name, values in metrics.items():
        known = np.asarray(values)[~np.isnan(values)]  # an agent may have no value there
        if len(known) == 0:
            continue
        tag = TAGS.get(name, name)
        point[tag] = float(known.mean())
        if tag in BANDS:
            low, high = BANDS[tag]
            point[low], point[high] = float(known.min()), float(known.max())
    return point


def seed_points(metrics: Mapping[str, list[float]]) -> list[dict[str, float]]:
    """The same as a point for each seed."""
    count = max(map(len, metrics.values()), default=0)
    return [
        {TAGS.get(name, name): values[i] for name, values in metrics.items() if i < len(values)}
        for i in range(count)
    ]
