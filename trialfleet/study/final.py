"""The table [final]: how the answer is found, and how well it is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from trialfleet.checking.fields import Strict
from trialfleet.checking.mistakes import FieldError, unknown_key
from trialfleet.checking.rules import Flag, Real, Rule, Whole
from trialfleet.study.task import MAX_EPISODES

DEFAULT_TOP = 8  # of a study that does not say so, as far as it has so many configurations


_MOST_CONFIRMING = 10_000
_FIRST_TRIALS = 4  # of a confirmation that is looked at after each block


@dataclass(frozen=True, kw_only=True)
class UntilNarrow:
    """Fresh agents for the winner until the 95% interval of their mean is narrow enough."""

    width: float  # from end to end, at most
    most: int  # agents; then it is over, however wide the interval is


@dataclass(frozen=True)
class Confirming(Rule):
    """A number of agents, or how narrow an interval is to become with how many at most."""

    _agents = Whole(0, 1_000)
    _fields = ("width", "most")

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return f"{self._agents.allowed}, or {{ width = …, most = … }}"

    def check(self, value: object) -> int | UntilNarrow:
        """The number itself, or the two of the table."""
        if isinstance(value, UntilNarrow):
            return value
        if not isinstance(value, dict):
            if type(value) is int and self._agents.low <= value <= self._agents.high:
                return value
            raise self.refusal(value)
        for key in value:
            if key not in self._fields:
                raise unknown_key(key, self._fields)
        width, most = Real(0, 1e12, exclusive_low=True), Whole(1, _MOST_CONFIRMING)
        for key, rule in (("width", width), ("most", most)):
            if key not in value:
                raise FieldError(f"is missing; must be {rule.allowed}", at=key)
            try:
                rule.check(value[key])
            except FieldError as problem:
                raise problem.under(key) from None
        return UntilNarrow(width=width.check(value["width"]), most=value["most"])


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
    # fresh agents that confirm the winner of a race; 0: none, and the race's figures are the
    # answer; a table: until the interval of their mean is at most so wide, or most are trained
    confirm: Annotated[int | UntilNarrow, Confirming()] = 30
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

    @property
    def until(self) -> UntilNarrow | None:
        """What the winner is confirmed until; None if the number of its agents is fixed."""
        return self.confirm if isinstance(self.confirm, UntilNarrow) else None

    @property
    def most_confirming(self) -> int:
        """Agents that confirm the winner, at most."""
        return self.confirm if isinstance(self.confirm, int) else self.confirm.most

    @property
    def confirming_told(self) -> str:
        """How many seeds confirm the winner, in words."""
        if self.until is None:
            return f"{self.confirm} more"
        return (
            f"at most {self.until.most} more, until its 95% interval is {self.until.width:g} wide"
        )

    def confirmation_blocks(self, agents: int) -> list[int]:
        """How many agents have confirmed the winner by the end of each block, at most.

        Where they go on until an interval is narrow, the first block is four trials, or a quarter
        of all that there may be, and each further one half as many again as there are: workers
        have something to do beside each other, and at most a third is trained in vain.

        Args:
            agents: As many as a trial trains at once.
        """
        most = self.most_confirming
        if self.until is None:
            return [most] if most else []
        trials = -(-most // agents)
        done = max(1, min(_FIRST_TRIALS, trials // 4))
        found = []
        while done < trials:
            found.append(done * agents)
            done += -(-done // 2)
        return [*found, most]

    def next_confirming(self, agents: int, done: int) -> int:
        """How many agents have confirmed the winner by the end of the block after so many."""
        return next(end for end in self.confirmation_blocks(agents) if end > done)
