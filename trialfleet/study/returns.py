"""Between which bounds an episode's return lies: known of a few environments, declared of others.

With bounds, an interval of the mean over seeds holds for every distribution within them. That is
why each episode that counts is held to them: one outside of them makes its trial fail.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trialfleet.checking.mistakes import FieldError, unknown_key
from trialfleet.checking.rules import Real, Rule

_MOST = 1e12
# Sums of rewards are rounded, and rewards may be float32: what is past a bound by no more than
# this share of the width counts as on it.
_ROUNDING = 1e-6
_ENDS = ("low", "high")


@dataclass(frozen=True, kw_only=True)
class Returns:
    """Bounds of an episode's return; of a training of one's own, of what a seed scores."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """Of the range."""
        return self.high - self.low

    def __str__(self) -> str:
        return f"{self.low:.12g} to {self.high:.12g}"

    def first_outside(self, values: Iterable[float]) -> int | None:
        """The place of the first value outside of the bounds by more than rounding, if any is."""
        slack = _ROUNDING * self.width
        low, high = self.low - slack, self.high + slack
        return next((at for at, value in enumerate(values) if not low <= value <= high), None)

    def contains(self, other: Returns) -> bool:
        """Whether whatever is within the other bounds is within these."""
        return self.low <= other.low and other.high <= self.high


class OutsideReturnsError(Exception):
    """An episode that counts has returned what the study says that none returns."""


@dataclass(frozen=True)
class Bounds(Rule):
    """A table with both bounds."""

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return "{ low = …, high = … }, the least and the most that an episode can return"

    def check(self, value: object) -> Returns | None:
        """The bounds; None where the field is left out of a stored study."""
        if value is None or isinstance(value, Returns):
            return value
        if not isinstance(value, dict):
            raise self.refusal(value)
        for key in value:
            if key not in _ENDS:
                raise unknown_key(key, _ENDS)
        for end in _ENDS:
            if end not in value:
                raise FieldError(f"is missing; must be {Real(-_MOST, _MOST).allowed}", at=end)
        low, high = (_end(end, value[end]) for end in _ENDS)
        if not low < high:
            raise FieldError(f"{high:g} is not above low ({low:g}); must be above it", at="high")
        return Returns(low=low, high=high)


def _end(name: str, value: object) -> float:
    try:
        return Real(-_MOST, _MOST).check(value)
    except FieldError as problem:
        raise problem.under(name) from None


# Environments whose every step has a reward from 0 to 1 (CartPole) or from -1 to 0, and the time
# limits that they are registered with.
_STEPS = {
    "CartPole-v0": (0, 1, 200),
    "CartPole-v1": (0, 1, 500),
    "Acrobot-v1": (-1, 0, 500),
    "MountainCar-v0": (-1, 0, 200),
}


def known_returns(env: str, max_episode_steps: int | None) -> Returns | None:
    """Return the bounds of one of Gymnasium's own environments as it is; None of any other.

    Args:
        env: Its id. A module may register another environment under the same one.
        max_episode_steps: Where episodes are cut off; None: as the environment has it.
    """
    if env not in _STEPS:
        return None
    low, high, limit = _STEPS[env]
    steps = max_episode_steps or limit
    return Returns(low=float(low * steps), high=float(high * steps))
