"""Which pruners there are, by name; the user's own among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from trialfleet.checking.arguments import Arguments, made
from trialfleet.checking.fields import Named
from trialfleet.checking.imports import IMPORTED
from trialfleet.search.pruners.base import Pruner

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

    from trialfleet.search.judges import Judge
    from trialfleet.study.spec import Spec


class OwnPruner(Pruner):
    """A pruner of yours, or of a package: any of Optuna's `BasePruner`s, made anew for each trial.

    It is asked as Optuna asks it: after each report the study and the trial are read as objects.
    """

    name: Annotated[str, IMPORTED]  # the class
    args: Annotated[dict[str, Any], Arguments()] = Field(default_factory=dict)  # of its constructor

    def build(self, spec: Spec, trial_number: int) -> Judge:
        """Who decides about the trial of this number."""
        from trialfleet.search.judges.optunas import OptunaJudge

        return OptunaJudge(rule=self.name, pruner=self.made())

    def probe(self, spec: Spec) -> None:
        """Make one."""
        self.made()

    def made(self) -> BasePruner:
        """One of it."""
        from optuna.pruners import BasePruner

        return made(self.name, BasePruner, self.args)  # type: ignore[type-abstract]


PRUNERS: dict[str, type[Pruner]] = {}  # filled where all of them are known
ANY_PRUNER = Named(PRUNERS, own=OwnPruner)
