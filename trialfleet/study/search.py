"""The table [search]: what is searched for, how, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import field_serializer, model_validator

from trialfleet.checking.fields import Strict
from trialfleet.checking.mistakes import FieldError, Gathering, under
from trialfleet.checking.rules import OneOf, Real, Whole
from trialfleet.search.pruners import ANY_PRUNER, Hyperband, NoPruner, Pruner
from trialfleet.search.samplers import ANY_SAMPLER, Sampler, Tpe
from trialfleet.study.measures import OVER_SEEDS, SCORE, Objective, Objectives

if TYPE_CHECKING:
    from trialfleet.study.spec import Spec


class Search(Strict):
    """How configurations are found."""

    # trials that count: completed and pruned ones
    trials: Annotated[int, Whole(1, 1_000_000)] = 50
    # what is searched for; `objective = "score"` stands for a list of one
    objectives: Annotated[tuple[Objective, ...], Objectives()] = (SCORE,)
    # how the values of a trial's agents become the trial's
    over_seeds: Annotated[str, OneOf(OVER_SEEDS)] = "mean"
    # suggests the values of the searched hyperparameters: a name, or a table with name and options
    sampler: Annotated[Sampler, ANY_SAMPLER] = Tpe()
    # ends trials early, given like the sampler; "none" where no evaluation tells of the objective
    pruner: Annotated[Pruner, ANY_PRUNER] = Hyperband()
    # share of the pruned trials that are trained to their end, to see what pruning costs
    audit: Annotated[float, Real(0, 1)] = 0.0
    # how many failed trials are replaced; one more ends the study
    max_failures: Annotated[int, Whole(0, 1_000_000)] = 10
    # how often a trial may be lost with its worker before it fails
    max_attempts: Annotated[int, Whole(1, 1_000)] = 3

    def probe(self, spec: Spec) -> None:
        """Import and try what it names of the user's own.

        Raises:
            FieldError: That fails; at its dotted path.
        """
        with Gathering() as gathering:
            with gathering.under("search.pruner"):
                self.pruner.probe(spec)
            with gathering.under("search.sampler"):
                self.sampler.probe(spec)

    @property
    def prunable(self) -> bool:
        """Whether evaluations tell how the objective stands: what a pruner judges by."""
        return len(self.objectives) == 1 and self.objectives[0].judged_by_returns

    @model_validator(mode="before")
    @classmethod
    def _one_objective_is_a_list(cls, table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        table = dict(table)
        if "objective" in table:
            if "objectives" in table:
                raise FieldError("is there beside objectives; must be one of them", at="objective")
            with under("objective"):
                table["objectives"] = [Objective.parse(table.pop("objective"))]
        if "pruner" not in table and "objectives" in table:
            with under("objectives"):
                objectives = Objectives().check(table["objectives"])
            if not cls.model_construct(objectives=objectives).prunable:
                table["pruner"] = NoPruner()
        return table

    @field_serializer("objectives")
    def _objectives_as_text(self, objectives: tuple[Objective, ...]) -> list[str]:
        return [*map(str, objectives)]

    @model_validator(mode="after")
    def _pruner_has_what_it_judges(self) -> Search:
        if self.prunable or isinstance(self.pruner, NoPruner):
            return self
        name = f'"{self.pruner.name}"'
        if len(self.objectives) > 1:
            raise FieldError(
                f"{name}; a pruner judges one value, and there are {len(self.objectives)}"
                " objectives: a trial that is behind in one may be ahead in another;"
                ' must be "none"',
                at="pruner",
            )
        raise FieldError(
            f"{name}; pruners judge the returns of evaluations, which say nothing certain of"
            f' {self.objectives[0]}; must be "none", or the objective score or auc',
            at="pruner",
        )
