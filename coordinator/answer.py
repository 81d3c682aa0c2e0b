"""What a study found, as a number to rely on: the winner on seeds that did not choose it.

After a race, that is its confirmation. A fixed stage, and a race without confirmation, have only
the figures that the winner was chosen by: the largest of several, so a little optimistic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.certainty import LEVEL, Certainty, certainty_of_row, ends_told

Result = Mapping[str, Any]  # of a study, as stored; earlier versions knew no race


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the winner comes to."""

    trial: int  # in the search
    scores: Sequence[float]  # of each seed
    seeds: Sequence[int]
    mean: float
    iqm: float | None  # of a confirmation
    certainty: Certainty  # of the mean, over seeds
    search_score: float
    gap: float  # by which the search promised more
    confirmed: bool  # on seeds that played no part in choosing it
    solved: Mapping[str, Any] | None  # of a confirmation, where the threshold is known
    until: Mapping[str, Any] | None  # of a confirmation that went on until its interval was narrow
    measured: str  # what a seed's score is: a training of the user's own has no returns

    @property
    def seeds_told(self) -> str:
        """Which seeds these are, and how many."""
        return f"{len(self.scores)} {'confirmation' if self.confirmed else 'fresh'} seeds"

    @property
    def interval_told(self) -> str:
        """The interval, in words, with what it needs to hold."""
        return self.certainty.told(like=self.mean)

    @property
    def headline(self) -> str:
        """The interval in a few words, or that there is none."""
        ends = self.certainty.ends
        return (
            "no interval"
            if ends is None
            else f"{LEVEL:.0%} interval {ends_told(ends, like=self.mean)}"
        )

    @property
    def caveat_told(self) -> str:
        """What the interval does not say, or why it is long, in a clause; empty if neither."""
        return self.certainty.caveat(like=self.mean)

    @property
    def until_told(self) -> str:
        """Whether the interval became as narrow as it was to; empty where nobody asked for that."""
        if self.until is None:
            return ""
        width, most = f"{self.until['width']:g}", self.until["most"]
        if self.until["reached"]:
            return f"its interval is at most {width} wide after {len(self.scores)} of {most} seeds"
        return f"its interval was to be at most {width} wide, and is not after all {most} seeds"

    @property
    def solved_told(self) -> str:
        """How many seeds solve the task, in a sentence; empty where nobody says when it is."""
        if self.solved is None:
            return ""
        found = self.solved
        return (
            f"{found['seeds']} of {found['of']} seeds solve it ({self.measured} of "
            f"{found['threshold']:g} or more): at least {_share(found['at_least'])} of all seeds do"
            f" ({'' if found.get('sequential') else 'exact, '}{found['level']:.0%})"
        )


def answer(result: Result) -> Answer:
    """The answer of a study that is done."""
    winner = row_of_winner(result)
    found = result.get("confirmation")
    row = found or winner
    own = result.get("model", {}).get("task", {}).get("objective")
    return Answer(
        trial=winner["trial"],
        scores=row["scores"],
        seeds=row["seeds"],
        mean=row["mean"],
        iqm=row.get("iqm"),
        certainty=certainty_of_row(row),
        search_score=winner["search_score"],
        gap=row["gap"],
        confirmed=found is not None,
        solved=row.get("solved"),
        until=row.get("until"),
        measured="mean return" if own is None else "score",
    )


def row_of_winner(result: Result) -> dict[str, Any]:
    """The winner among the finalists, with the figures that it was chosen by."""
    rows: Sequence[dict[str, Any]] = result["finalists"]
    return next(row for row in rows if row["rank"] == result["winner"])


def race_told(result: Result) -> list[str]:
    """The course of a race for people, a sentence each; none of a fixed stage."""
    race = result.get("race")
    if race is None:
        return []
    finalists = result["finalists"]
    trials = {row["rank"]: row["trial"] for row in finalists}
    lines = [
        f"{_many(len(finalists), 'finalist')} raced over {_many(race['blocks'], 'block')} of "
        f"{_many(race['block_seeds'], 'seed')}: {race['seeds']} seeds were trained of at most "
        f"{race['most_seeds']}"
    ]
    if len(finalists) < race.get("top", 0):
        lines.append(
            f"final.top is {race['top']}, but no more configurations were completed that differ"
        )
    out = [row for row in finalists if row["verdict"] == "out"]
    if out:
        lines.append(
            f"{len(out)} {'was' if len(out) == 1 else 'were'} eliminated early (the probability "
            f"that the race eliminates the best finalist is at most {100 * race['error']:g}%)"
        )
    if race["equivalent"]:
        others = ", ".join(str(trials[rank]) for rank in race["equivalent"])
        several = len(race["equivalent"]) > 1
        lines.append(
            f"{'trials' if several else 'trial'} {others} {'are' if several else 'is'} equivalent: "
            "each of their seeds reached the highest score, too, and the winner learns fastest"
        )
    return lines


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _share(share: float) -> str:
    """A lower bound in percent, rounded down: never more than was shown."""
    return f"{int(1000 * share) / 10:g}%"
