"""After each block of the race: who leaves, who waits, and whether it is settled who wins.

The rules are functions of the scores alone, so whoever asks comes to the same decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from coordinator.race.chances import Known, chances
from coordinator.race.narrowing import Narrowing
from trialfleet.study.values import mean

# "enters" is said of those that the search chose, before the first block; the last three of a
# winner that is confirmed until its interval is narrow (`coordinator.race.narrowing`).
Verdict = Literal[
    "enters",
    "stays",
    "waits",
    "out",
    "failed",
    "wins",
    "equivalent",
    "behind",
    "confirming",
    "confirmed",
    "spent",
]

# Scores that differ by no more than this share of the highest count as equally good.
MARGIN = 0.01
# Of those that cannot be beaten, because of a capped score, so many train at a time.
TOGETHER = 2


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a race goes by."""

    finalists: int  # how many entered
    seeds: int  # of each in a block
    blocks: int  # at most so many of each
    error: float  # the probability with which the best finalist may be removed
    narrowing: Narrowing | None = None  # what its winner is confirmed until; None: not looked at

    @property
    def most(self) -> int:
        """Seeds of a finalist, at most."""
        return self.seeds * self.blocks

    @property
    def level(self) -> float:
        """The probability of being the best with which a finalist leaves, or with less.

        Each leaves once, so those that leave are the best with a probability of at most `error`
        together, after however many blocks.
        """
        return self.error / max(1, self.finalists - 1)


@dataclass(frozen=True, kw_only=True)
class Racer(Known):
    """A finalist that stands, with all it has come to in the race; more is better."""

    rank: int  # in the search
    area: float  # under its evaluation curves in the race
    failures: Sequence[str] = ()  # reasons of trials that failed


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of one finalist after one block."""

    finalist: int  # its rank
    verdict: Verdict
    seeds: int  # of it so far
    mean: float | None
    p: float | None = None  # the probability that it is the best of those that stood
    level: float | None = None  # with which it leaves; None where p is
    why: str  # in a line


def decide(racers: Sequence[Racer], rules: Rules) -> list[Decision]:
    """What becomes of each finalist that stands: one "wins", or those that "stay" train a block.

    *Who leaves.* Whoever has seeds left to train, and is the best with a probability of at most
    `rules.level`, given the seeds of the race and of the search (`chances`). So the best leaves
    with a probability of at most `rules.error`, on average over what finalists may be like. Tests
    that hold in the worst case, such as the group-sequential permutation tests of AdaStop (Mathieu
    et al. 2023, arXiv:2306.10882), remove far fewer finalists of a handful of seeds each, and in
    the end the winner is right no more often (docs/answer.md).

    *A capped score* is one that seeds of two finalists have reached exactly: nothing is better. A
    finalist all of whose seeds are within `MARGIN` of it cannot be beaten by more than that, so it
    never leaves. The others wait, and come back if it fails. Of several such the fastest learner is
    preferred, and `TOGETHER` of them train at a time. It wins once it has all its seeds, and the
    others are equivalent.

    *Else* it is settled with one left, or when all that are left have all their seeds: the best
    mean over the seeds of race and search wins, ties by the area under the evaluation curve.

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
    capped, found = at_cap(standing), chances(standing)
    best = {  # by rank, where it can be told and may decide
        racer.rank: p
        for racer, p in zip(standing, found or [], strict=False)
        if racer not in capped and len(racer.scores) < rules.most
    }
    left = [
        racer
        for place, racer in enumerate(standing)
        if place == 0 or best.get(racer.rank, 1.0) > rules.level
    ]
    verdicts = _verdicts(left, capped, rules)
    for racer in standing:
        p = best.get(racer.rank)
        verdict, why = verdicts.get(racer.rank) or (
            "out",
            f"the best with a probability of {p:.1%} only",
        )
        decisions.append(
            Decision(
                finalist=racer.rank,
                verdict=verdict,
                seeds=len(racer.scores),
                mean=mean(racer.scores),
                p=p,
                level=None if p is None else rules.level,
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


def _verdicts(
    left: Sequence[Racer], capped: Sequence[Racer], rules: Rules
) -> dict[int, tuple[Verdict, str]]:
    """On each that has not been removed, by rank; the best mean comes first."""
    if len(left) == 1:
        return {left[0].rank: ("wins", "the only one left")}
    if capped:
        return _at_cap(left, capped, rules)
    fewest = min(len(racer.scores) for racer in left)
    if fewest < rules.most:
        return {
            racer.rank: ("stays", "may be the best")
            if len(racer.scores) == fewest
            else ("waits", "has more seeds than others that may be the best")
            for racer in left
        }
    return {
        racer.rank: ("behind", "a lower mean over race and search")
        if place
        else ("wins", "the best mean over race and search")
        for place, racer in enumerate(left)
    }


def _at_cap(
    left: Sequence[Racer], capped: Sequence[Racer], rules: Rules
) -> dict[int, tuple[Verdict, str]]:
    """The same, where some cannot be beaten."""
    reaches = "every seed reaches the highest possible score"
    fastest = sorted(capped, key=lambda racer: (-racer.area, racer.rank))
    over = len(fastest[0].scores) >= rules.most
    training = [racer for racer in fastest[:TOGETHER] if len(racer.scores) < rules.most]
    found: dict[int, tuple[Verdict, str]] = {}
    for racer in left:
        if racer not in capped:
            why = "others have reached the highest score with every seed"
            found[racer.rank] = ("behind" if over else "waits", why)
        elif over:
            found[racer.rank] = ("equivalent", reaches)
        elif racer in training:
            found[racer.rank] = ("stays", reaches)
        else:
            found[racer.rank] = ("waits", f"{reaches}, but others learn faster")
    if over:
        others = f", as of {len(capped) - 1} more, and learns fastest" if len(capped) > 1 else ""
        found[fastest[0].rank] = ("wins", reaches + others)
    return found


def winner_of(decisions: Sequence[Decision]) -> int | None:
    """The rank of the one that wins; None if there is another block, or nobody left."""
    return next((each.finalist for each in decisions if each.verdict == "wins"), None)
