"""What every pruner of a study file is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialfleet.checking.fields import Strict
from trialfleet.checking.mistakes import FieldError
from trialfleet.checking.rules import Whole

if TYPE_CHECKING:
    from trialfleet.search.judges import Judge
    from trialfleet.study.spec import Spec

TRIALS = Whole(0, 1_000_000)
MAX_STEPS = 1_000_000_000


class Pruner(Strict):
    """Ends trials early that do worse than others. Its fields are its options."""

    name: str

    def check(self, spec: Spec) -> None:
        """Refuse a study that this pruner does not go with; raises FieldError."""

    def first_judged(self, spec: Spec) -> int | None:
        """The environment steps of the first evaluation that may end a trial; None if none may."""
        return spec.task.eval_every

    def build(self, spec: Spec, trial_number: int) -> Judge:
        """Who decides about the trial of this number."""
        raise NotImplementedError

    def probe(self, spec: Spec) -> None:
        """Import what it names of the user's, and try it; raises FieldError."""


def evaluation_from(steps: int, spec: Spec) -> int:
    """The environment steps of the first evaluation after at least so many steps."""
    every = spec.task.eval_every
    return max(1, -(-steps // every)) * every


def fits(option: str, steps: int | None, spec: Spec) -> None:
    """Refuse an option of more environment steps than a trial has."""
    most = spec.task.train_steps
    if steps is not None and steps > most:
        raise FieldError(
            f"{steps} environment steps are more than task.train_steps ({most});"
            f" must be at most {most}",
            at=option,
        )
