"""Ways from a search to an answer: the best search value, a fixed stage, and a race.

Each works on the same search and on the same fresh seeds, and by the product's own rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from coordinator.finalists import choose_finalists, choose_racers
from coordinator.race.decisions import Racer, Rules, decide, winner_of

MARGIN = 0.01  # a winner is right if it is within so much of the best finalist's true mean


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """Fresh seeds of one configuration, in the order in which they are trained."""

    scores: Sequence[float]
    areas: Sequence[float]  # under their evaluation curves


@dataclass(frozen=True, kw_only=True)
class Searched:
    """A search that is over, with what its best configurations are really worth."""

    trials: list[FrozenTrial]
    truth: Mapping[int, float]  # mean of very many seeds, by trial; of every possible finalist


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a strategy said of a study, beside the truth."""

    trial: int
    mean: float  # as printed
    true: float  # of that configuration
    best: float  # true mean of the best finalist
    seeds: int  # that chose the winner
    confirming: int = 0  # that were trained for it alone, afterwards

    @property
    def right(self) -> bool:
        """Whether the winner is as good as any, within the margin."""
        return self.true >= self.best - MARGIN * abs(self.best)

    @property
    def optimism(self) -> float:
        """How much more was printed than is true."""
        return self.mean - self.true


def best_value(searched: Searched) -> Told:
    """The best search value, as RL Zoo and plain Optuna have it."""
    (best,) = choose_finalists(searched.trials, 1)
    return _told(searched, best.number, best.values[0], 0)


def fixed(searched: Searched, fresh: Mapping[int, Fresh], *, top: int, seeds: int) -> Told:
    """All seeds for all finalists; the best mean wins, and is printed."""
    finalists = [each.number for each in choose_finalists(searched.trials, top)]
    found = {
        number: (np.mean(fresh[number].scores[:seeds]), np.mean(fresh[number].areas[:seeds]))
        for number in finalists
    }
    winner = max(finalists, key=lambda number: found[number])
    return _told(searched, winner, float(found[winner][0]), len(finalists) * seeds)


def race(
    searched: Searched,
    fresh: Mapping[int, Fresh],
    *,
    top: int,
    block: int,
    blocks: int,
    error: float,
    confirm: int,
) -> Told:
    """The product's race, and its confirmation on the seeds that follow; 0: the race's mean."""
    chosen = choose_racers(searched.trials, top)
    entered = [finalist.number for finalist, _ in chosen]
    rules = Rules(finalists=len(entered), seeds=block, blocks=blocks, error=error)
    done = dict.fromkeys(range(len(entered)), 0)
    standing = training = [*done]
    while True:
        for rank in training:
            done[rank] += block
        racers = [
            Racer(
                rank=rank,
                estimate=chosen[rank][1],
                searched=len(chosen[rank][0].trial.user_attrs["scores"]),
                scores=fresh[entered[rank]].scores[: done[rank]],
                area=float(np.mean(fresh[entered[rank]].areas[: done[rank]])),
            )
            for rank in standing
        ]
        decided = decide(racers, rules)
        winner = winner_of(decided)
        if winner is not None:
            break
        verdicts = {each.finalist: each.verdict for each in decided}
        training = [rank for rank in standing if verdicts[rank] == "stays"]
        standing = [rank for rank in standing if verdicts[rank] in ("stays", "waits")]
    used = done[winner]
    scores = fresh[entered[winner]].scores
    printed = scores[used : used + confirm] if confirm else scores[:used]
    return _told(searched, entered[winner], float(np.mean(printed)), sum(done.values()), confirm)


def needed(searched: Searched, tops: Sequence[int]) -> list[int]:
    """The trials that any of these strategies may retrain, the best first."""
    found = [each.number for top in tops for each in choose_finalists(searched.trials, top)]
    found += [each.number for top in tops for each, _ in choose_racers(searched.trials, top)]
    return [*dict.fromkeys(found)]


def _told(searched: Searched, trial: int, mean: float, seeds: int, confirming: int = 0) -> Told:
    return Told(
        trial=trial,
        mean=mean,
        true=searched.truth[trial],
        best=max(searched.truth.values()),
        seeds=seeds,
        confirming=confirming,
    )
