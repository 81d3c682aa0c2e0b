"""After each block of the race: who leaves, who waits, and whether it is settled who wins.

The rules are functions of the scores alone, so whoever asks comes to the same decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from coordinator.race.permutation import divisions, p_value
from trialfleet.seeds import race_test_seed

# "enters" is said of those that the search chose, before the first block.
Verdict = Literal["enters", "stays", "waits", "out", "failed", "wins", "equivalent", "behind"]

# Scores that differ by no more than this share of the highest count as equally good.
MARGIN = 0.01
# Seeds of each finalist at the cap that are enough to end the race.
ENOUGH = 12


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a race goes by."""

    finalists: int  # how many entered
    seeds: int  # of each in a block
    blocks: int  # at most so many of each
    error: float  # the probability with which the best finalist may be removed
    study_seed: int
    at_cap: int = ENOUGH  # seeds of each finalist at the cap that end the race, if there are more

    @property
    def enough(self) -> int:
        """Seeds of each finalist at the cap that end the race."""
        return min(self.at_cap, self.seeds * self.blocks)

    def level(self, blocks: int) -> float | None:
        """The highest p value at which a finalist leaves after so many blocks; None: none leaves.

        After the last block the race ends anyway, and before there are enough seeds no p value
        could be low enough. The error is shared equally between the blocks in between.
        """
        for first in range(1, self.blocks):
            share = self.error / max(1, self.finalists - 1) / (self.blocks - first)
            if 1 / divisions(first * self.seeds) <= share:
                return share if first <= blocks < self.blocks else None
        return None


@dataclass(frozen=True, kw_only=True)
class Racer:
    """A finalist that stands, with all it has come to in the race."""

    rank: int  # in the search
    scores: Sequence[float]  # of its seeds so far, [n]; more is better
    area: float  # under its evaluation curves, more is better
    failures: Sequence[str] = ()  # reasons of trials that failed
    trial: int | None = None  # its number in the search, for people

    @property
    def mean(self) -> float:
        """Its mean score."""
        return float(np.mean(self.scores))

    @property
    def called(self) -> str:
        """Its name for people."""
        return f"finalist {self.rank}" if self.trial is None else f"trial {self.trial}"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of one finalist after one block."""

    finalist: int  # its rank
    verdict: Verdict
    seeds: int  # of it so far
    mean: float | None
    against: int | None = None  # the rank of the finalist that it was tested against
    p: float | None = None  # of that test
    level: float | None = None  # at which it would have left; None where p decided nothing
    why: str  # in a line


def decide(racers: Sequence[Racer], rules: Rules) -> list[Decision]:
    """What becomes of each finalist that stands: one "wins", or those that "stay" train a block.

    *Who leaves.* Each is compared with the one that leads by its mean, by the permutation test of
    two means at `rules.level`, whenever all that stand have equally many seeds. This is subset
    selection (Gupta 1965, "On Some Multiple Decision (Selection and Ranking) Rules"; Hsu 1984,
    "Constrained Simultaneous Confidence Intervals for Multiple Comparisons with the Best") by
    group-sequential permutation tests, as AdaStop has them (Mathieu et al. 2023, arXiv:2306.10882).
    What may not happen is that the best finalist is removed. finalists - 1 others could do that,
    after some blocks: by Bonferroni's inequality its probability over all of them is at most
    `rules.error`, exactly and for any number of seeds where the other is as good as the best.
    AdaStop's own bound holds asymptotically, and its threshold for the differences of all pairs is
    that of the finalists that vary most, which hides what is known of steady ones.

    *A capped score* is one that seeds of two finalists have reached exactly: nothing is better. A
    finalist all of whose seeds are within `MARGIN` of it cannot be beaten by more than that. So the
    others wait, and come back if it fails. With `rules.enough` seeds it ends the race; of several
    such the one that learned fastest wins, and the others are equivalent.

    *Else* it is settled with one left, or after the last block: the best mean wins, ties by the
    area under the evaluation curve.

    A finalist one of whose trials failed leaves: its seeds are no longer those that were drawn.

    Args:
        racers: All that stood before this block.
        rules: Of this race.
    """
    decisions = [
        Decision(
            finalist=racer.rank,
            verdict="failed",
            seeds=len(racer.scores),
            mean=None,
            why=racer.failures[0],
        )
        for racer in racers
        if racer.failures
    ]
    standing = sorted(
        (racer for racer in racers if not racer.failures),
        key=lambda racer: (-racer.mean, -racer.area, racer.rank),
    )
    if not standing:
        return decisions
    leader, level = standing[0], None
    tested: dict[int, float] = {}
    if len({len(racer.scores) for racer in standing}) == 1:
        blocks = len(leader.scores) // rules.seeds
        level = rules.level(blocks)
        rng = np.random.default_rng(race_test_seed(rules.study_seed, blocks))
        tested = {racer.rank: p_value(leader.scores, racer.scores, rng) for racer in standing[1:]}
    left = [racer for racer in standing if level is None or tested.get(racer.rank, 1.0) > level]
    verdicts = _verdicts(left, rules)
    worse: tuple[Verdict, str] = ("out", f"worse than {leader.called} by more than luck")
    for racer in standing:
        verdict, why = verdicts.get(racer.rank, worse)
        p = tested.get(racer.rank)
        decisions.append(
            Decision(
                finalist=racer.rank,
                verdict=verdict,
                seeds=len(racer.scores),
                mean=racer.mean,
                against=None if p is None else leader.rank,
                p=p,
                level=None if p is None else level,
                why=why,
            )
        )
    return decisions


def at_cap(racers: Sequence[Racer]) -> list[Racer]:
    """Those that cannot be beaten, because of a capped score; none where no cap is seen."""
    top = max(max(racer.scores) for racer in racers)
    if sum(top in racer.scores for racer in racers) < 2:
        return []
    return [racer for racer in racers if min(racer.scores) >= top - MARGIN * abs(top)]


def _verdicts(left: Sequence[Racer], rules: Rules) -> dict[int, tuple[Verdict, str]]:
    """On each that has not been removed, by rank; the leader comes first."""
    if len(left) == 1:
        return {left[0].rank: ("wins", "the only one left")}
    capped = at_cap(left)
    if capped:
        return _at_cap(left, capped, rules)
    fewest = min(len(racer.scores) for racer in left)
    if fewest < rules.seeds * rules.blocks:
        return {
            racer.rank: ("stays", "not told apart from the leader")
            if len(racer.scores) == fewest
            else ("waits", "has more seeds than others that stand")
            for racer in left
        }
    return {
        racer.rank: ("behind", "a lower mean") if place else ("wins", "the best mean")
        for place, racer in enumerate(left)
    }


def _at_cap(
    left: Sequence[Racer], capped: Sequence[Racer], rules: Rules
) -> dict[int, tuple[Verdict, str]]:
    """The same, where some cannot be beaten."""
    found: dict[int, tuple[Verdict, str]] = {}
    unsure = [racer for racer in capped if len(racer.scores) < rules.enough]
    reaches = "every seed reaches the highest possible score"
    for racer in left:
        if racer in unsure:
            found[racer.rank] = ("stays", reaches)
        elif unsure:
            found[racer.rank] = ("waits", "others have reached the highest score with every seed")
        elif racer in capped:
            found[racer.rank] = ("equivalent", reaches)
        else:
            found[racer.rank] = ("behind", "others have reached the highest score with every seed")
    if not unsure:
        best = max(capped, key=lambda racer: (racer.area, -racer.rank))
        others = f", as of {len(capped) - 1} more, and learns fastest" if len(capped) > 1 else ""
        found[best.rank] = ("wins", reaches + others)
    return found


def winner_of(decisions: Sequence[Decision]) -> int | None:
    """The rank of the one that wins; None if there is another block, or nobody left."""
    return next((each.finalist for each in decisions if each.verdict == "wins"), None)
