"""[[enqueue]]: configurations that a study file asks for, before any that its sampler chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trialfleet.checking.mistakes import FieldError, Gathering
from trialfleet.checking.rules import Rule
from trialfleet.search import fixed

if TYPE_CHECKING:
    from trialfleet.study.spec import Spec

_MOST = 1_000


class Enqueued(Rule):
    """A list of tables; what is in them is checked once the search space is known."""

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return f"[[enqueue]] tables of searched knobs, at most {_MOST}"

    def check(self, value: object) -> tuple[dict[str, Any], ...]:
        """The tables."""
        if (
            isinstance(value, list | tuple)
            and len(value) <= _MOST
            and all(isinstance(each, dict) for each in value)
        ):
            return tuple(value)
        raise self.refusal(value)


def check_enqueued(spec: Spec) -> None:
    """Refuse configurations that no sampler could have suggested, and more than there are trials.

    Raises:
        FieldError: Anything is wrong with one.
    """
    with Gathering() as gathering:
        for position, table in enumerate(spec.enqueue):
            with gathering.under(f"enqueue[{position}]"):
                fixed.checked(table, spec.agent)
    if len(spec.enqueue) > spec.budget:
        raise FieldError(
            f"{len(spec.enqueue)} configurations are more than search.trials"
            f" ({spec.budget}); must be at most {spec.budget}",
            at="enqueue",
        )
