"""Who gets into the final stage, and how fresh seeds are spread over trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from coordinator.race.shrinkage import shrunken
from coordinator.ranking import excess, front, losses, ranked, spread_out
from trialfleet.study.values import curve_area


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A configuration that the search found."""

    rank: int  # 0 is the search's best
    number: int  # its trial in the search
    values: list[float]  # of each objective, over the search's seeds
    trial: FrozenTrial


def choose_finalists(
    trials: list[FrozenTrial], top: int, maximize: Sequence[bool] = (True,)
) -> list[Finalist]:
    """The `top` best distinct configurations among the COMPLETE trials that are feasible.

    See `ranked` for which is better. With several objectives, they are those that no other one
    dominates, and where these are more than `top`, those that are far apart (`spread_out`); the
    best by the first objective comes first.

    Args:
        trials: Of the search.
        top: At most so many.
        maximize: Of each objective, whether more is better.
    """
    candidates = [trial for trial in ranked(trials, maximize) if excess(trial) == 0]
    several = len(maximize) > 1
    if several:
        points = [losses(trial.values, maximize) for trial in candidates]
        candidates = [candidates[index] for index in front(points)]
    chosen: list[FrozenTrial] = []
    for trial in candidates:
        new = all(trial.params != other.params for other in chosen)
        if new and (several or len(chosen) < top):
            chosen.append(trial)
    if several:
        points = [losses(trial.values, maximize) for trial in chosen]
        chosen = [chosen[index] for index in spread_out(points, top)]
    return [
        Finalist(rank=rank, number=trial.number, values=trial.values, trial=trial)
        for rank, trial in enumerate(chosen)
    ]


def seed_groups(seeds: list[int], size: int) -> list[list[int]]:
    """`seeds` in order, in as few groups of at most `size` as possible, of nearly equal length."""
    count = -(-len(seeds) // size)
    return [seeds[i * len(seeds) // count : (i + 1) * len(seeds) // count] for i in range(count)]


def choose_racers(trials: list[FrozenTrial], top: int) -> list[tuple[Finalist, float]]:
    """The `top` best distinct configurations for a race, each with its shrunken mean.

    The means over the search's seeds are shrunken towards the study's (`shrunken`, the parametric
    empirical Bayes estimator of Morris 1983): a score that few seeds or uneven ones have come to
    counts for less. Many reach a task's highest return, so ties go to the one that learned faster
    (the area under the evaluation curve), then to the earlier trial.

    Args:
        trials: Of a search for the mean score.
        top: At most so many.
    """
    complete = ranked(trials, (True,))
    # One that came without the scores of its agents has its value, as of one seed.
    scores = [trial.user_attrs.get("scores") or trial.values for trial in complete]
    estimates = dict(zip([trial.number for trial in complete], shrunken(scores), strict=True))
    chosen: list[FrozenTrial] = []
    for trial in sorted(
        complete,
        key=lambda t: (-estimates[t.number], -curve_area(t.intermediate_values), t.number),
    ):
        if len(chosen) < top and all(trial.params != other.params for other in chosen):
            chosen.append(trial)
    return [
        (
            Finalist(rank=rank, number=trial.number, values=trial.values, trial=trial),
            estimates[trial.number],
        )
        for rank, trial in enumerate(chosen)
    ]
