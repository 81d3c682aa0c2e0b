"""The table [final]: how the answer is found, and how well it is known."""

from __future__ import annotations

from typing import Annotated

from trialfleet.checking.fields import Strict
from trialfleet.checking.rules import Flag, Real, Whole
from trialfleet.study.task import MAX_EPISODES

DEFAULT_TOP = 8  # of a study that does not say so, as far as it has so many configurations


class Final(Strict):
    """The final stage: the best configurations once more, on seeds that the search never saw."""

    # configurations retrained, at most
    top: Annotated[int, Whole(1, 1_000)] = DEFAULT_TOP
    # whether they race: after each block of seeds those leave that can hardly be the best
    race: Annotated[bool, Flag()] = True
    # fresh agents of each finalist; in a race the most, rounded up to whole blocks
    seeds: Annotated[int, Whole(1, 256)] = 12
    # the probability with which the race may remove the best finalist
    error: Annotated[float, Real(0, 0.5, exclusive_low=True)] = 0.2
    # fresh agents that confirm the winner of a race; 0: none, and the race's figures are the answer
    confirm: Annotated[int, Whole(0, 1_000)] = 30
    # episodes of each fresh agent, with greedy actions
    episodes: Annotated[int, Whole(1, MAX_EPISODES)] = 150
    # a seed that scores so much has solved the task; the environment's own threshold unless given
    solved: Annotated[float | None, Real(-1e12, 1e12)] = None

    def block(self, agents: int) -> int:
        """Seeds of each finalist in a block of the race.

        Args:
            agents: As many as a trial trains at once.
        """
        return min(agents, self.seeds)

    def blocks(self, agents: int) -> int:
        """How many blocks the race has at most."""
        return -(-self.seeds // self.block(agents))
