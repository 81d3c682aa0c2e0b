"""A study, as its file describes it: its tables, and what they ask of each other."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    ValidationError,
    field_serializer,
    model_validator,
)

from trialfleet.checking.fields import Strict, explain
from trialfleet.checking.mistakes import FieldError, Gathering, dotted
from trialfleet.checking.rules import Pattern, Rule, Whole
from trialfleet.errors import VersionMismatchError
from trialfleet.search.algorithms import ALGORITHMS, params_of
from trialfleet.search.knobs import SearchSpace
from trialfleet.study import formats, own
from trialfleet.study.constraints import Constraint, Constraints
from trialfleet.study.enqueued import Enqueued, check_enqueued
from trialfleet.study.final import DEFAULT_TOP, Final
from trialfleet.study.measures import SCORE, Measure, check_measure
from trialfleet.study.returns import Returns
from trialfleet.study.search import Search
from trialfleet.study.stops import Stop
from trialfleet.study.task import Task

FINAL_SUFFIX = ".final"  # NAME.final is the study of NAME's final stage


class _Name(Pattern):
    """A study's name, which is not a final stage's."""

    def check(self, value: object) -> str:
        """The name itself."""
        name = super().check(value)
        if name.lower().rstrip("0123456789").removesuffix(".").endswith(FINAL_SUFFIX):
            raise FieldError(
                f"{name!r}; must not end with {FINAL_SUFFIX}, which names a final stage"
            )
        return name


_NAME = _Name(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"),
    "1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit",
)


@dataclass(frozen=True)
class _Table:
    """The table [agent] as the file has it, and the algorithm that says what it means."""

    algorithm: str | None  # None: there is no such algorithm, and [task] is refused for it
    given: object


class _Space(Rule):
    """What [agent] takes: the knobs of the algorithm."""

    def check(self, value: object) -> SearchSpace:
        """The search space."""
        assert isinstance(value, _Table), "Spec wraps the table before its fields are checked"
        if value.algorithm is None:
            return SearchSpace({})
        return SearchSpace.read(value.given, params_of(value.algorithm, value.given))


class Spec(Strict):
    """A whole study file."""

    # the study's name in the database
    name: Annotated[str, _NAME]
    # seed of every random draw of the study
    seed: Annotated[int, Whole(0, 2**32 - 1)] = 0
    task: Task = Task()
    agent: Annotated[SearchSpace, _Space()] = SearchSpace({})
    search: Search = Search()
    # what a trial must come to for its value to count
    constraints: Annotated[tuple[Constraint, ...], Constraints()] = ()
    final: Final = Final()
    # when the search ends before all its trials are trained
    stop: Stop = Stop()
    # configurations that are tried first: [[enqueue]] tables of searched knobs
    enqueue: Annotated[tuple[dict[str, Any], ...], Enqueued()] = ()
    # its share of a fleet's workers, relative to other studies' priorities
    priority: Annotated[int, Whole(1, 1_000)] = 1

    @classmethod
    def read(cls, tables: Any) -> Spec:
        """The study that these tables describe.

        Raises:
            FieldError: The mistake to report first, at its dotted path.
        """
        inside = own.inside(tables)
        try:
            return cls.model_validate(inside)
        except ValidationError as error:
            problem = explain(error, _known_keys(_algorithm(inside)))
            raise own.outside(problem, tables) from None

    def refuse_judging_the_untrained(self) -> None:
        """Refuse a pruner that may end a trial before its agents have learned anything.

        Only of a study that is yet to begin: earlier versions have begun such ones.

        Raises:
            FieldError: At the hyperparameter that decides when they begin to.
        """
        first = self.search.pruner.first_judged(self)
        learns_by = params_of(self.task.algorithm).learns_by(self.agent)
        if first is not None and first < learns_by:
            most = self.agent.largest("learning_starts")
            raise FieldError(
                f"{most} has the first update come at step {learns_by} (learning_starts, then"
                f" train_freq), and the pruner judges agents at step {first} already; must be"
                " smaller, or search.pruner begin later (n_warmup_steps or min_resource)",
                at="agent.learning_starts",
            )

    def as_tables(self) -> dict[str, Any]:
        """The study as its file has it, every default written out."""
        return own.as_file(self.model_dump(mode="json", exclude_none=True))

    def to_json(self) -> str:
        """The one text of this study: keys sorted, no white space, every default written out."""
        fields = formats.stored(self.as_tables())
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """The study that `to_json` wrote, of this version or an earlier one.

        Raises:
            VersionMismatchError: This version does not understand it.
        """
        try:
            tables = json.loads(text)
            return cls.read(formats.migrated(tables) if isinstance(tables, dict) else tables)
        except FieldError as problem:
            raise VersionMismatchError(
                f"the study as stored: {dotted(problem.at)}: {problem.text}"
            ) from None
        except ValueError as error:
            raise VersionMismatchError("the study as stored is not JSON") from error

    def handed(self, seeds: Sequence[int]) -> list[int]:
        """These seeds as its trainings are given them, and as its trials store them.

        A function of the user's passes them on to libraries that take 32 bits.
        """
        if self.task.objective is None:
            return list(seeds)
        from trialfleet.seeds import (
            narrowed,
        )  # here, as it takes NumPy, and reading a file does not

        return narrowed(seeds)

    @property
    def budget(self) -> int:
        """Trials that count: as many as asked for, or as there are configurations to try once."""
        count = self.search.sampler.count(self)
        return self.search.trials if count is None else min(self.search.trials, count)

    @property
    def races(self) -> bool:
        """Whether the final stage is a race.

        It tests mean scores, so a study that is judged by anything else has a fixed stage.
        """
        search = self.search
        by_mean_score = search.objectives == (SCORE,) and search.over_seeds == "mean"
        return self.final.race and by_mean_score and not self.constraints

    @property
    def returns(self) -> Returns | None:
        """The bounds of an episode's return, declared or known; None if neither.

        Every return that a score is the mean of is within them, but for rounding.
        """
        return self.task.returns or self.task.known_returns

    @property
    def digest(self) -> str:
        """SHA-256 of the study's one text, in hexadecimal."""
        return formats.digest(self.to_json())

    @model_validator(mode="before")
    @classmethod
    def _agent_is_the_algorithms(cls, tables: Any) -> Any:
        if not isinstance(tables, dict):
            return tables
        return {**tables, "agent": _Table(_algorithm(tables), tables.get("agent", {}))}

    @field_serializer("agent")
    def _agent_as_table(self, agent: SearchSpace) -> dict[str, Any]:
        return agent.as_table()

    @model_validator(mode="after")
    def _parts_agree(self) -> Spec:
        with Gathering() as gathering:
            with gathering.under("agent"):
                params_of(self.task.algorithm).check(self.agent, self.task)
            with gathering.under("search.pruner"):
                self.search.pruner.check(self)
            counted = False
            with gathering.under("search.sampler"):
                self.search.sampler.check(self)
                counted = True  # else nobody knows how many trials there are
            self._can_be_measured(gathering)
            with gathering.under("stop"):
                self.stop.check(len(self.search.objectives))
            with gathering.under("search.audit"):
                self._can_be_audited()
            with gathering.under("final.confirm"):
                self._can_be_confirmed()
            if counted:
                with gathering.under():
                    check_enqueued(self)
                with gathering.under("final.top"):
                    self._has_finalists()
        return self

    def _can_be_audited(self) -> None:
        if self.search.audit and self.search.objectives != (SCORE,):
            raise FieldError(
                f"{self.search.audit:g}; the audit compares scores, and the objective is"
                f" {', '.join(map(str, self.search.objectives))}; must be 0"
            )

    def _can_be_confirmed(self) -> None:
        if self.final.until and not self.races:
            raise FieldError(
                "confirms the winner of a race until an interval is narrow, and this study has no"
                ' race, which takes final.race, the objective score, over_seeds = "mean" and no'
                " constraints; must be a number or left out"
            )

    def _has_finalists(self) -> None:
        if self.final.top > self.budget and self.final.top != DEFAULT_TOP:
            points = self.budget < self.search.trials
            what = "there are configurations" if points else "search.trials"
            raise FieldError(
                f"{self.final.top} is more than {what} ({self.budget});"
                f" must be at most {self.budget}"
            )

    def _can_be_measured(self, gathering: Gathering) -> None:
        task, search = self.task, self.search
        asked: list[tuple[str, str, Measure, str | None]] = [
            ("search", "objectives", each.measure, None) for each in search.objectives
        ]
        asked += [
            (f"constraints[{place}]", "measure", each.measure, each.over_seeds)
            for place, each in enumerate(self.constraints)
        ]
        for table, at, measure, over_seeds in asked:
            with gathering.under(table):
                check_measure(
                    measure,
                    over_seeds or search.over_seeds,
                    seeds=task.seeds,
                    own_training=task.objective is not None,
                    at=at,
                )


def _algorithm(tables: Any) -> str | None:
    """The algorithm that [task] names, before anything is checked; None if there is none."""
    task = tables.get("task", {}) if isinstance(tables, dict) else None
    if isinstance(task, Task):
        return task.algorithm
    if own.is_own(tables):
        return own.ALGORITHM  # whatever stands beside the objective
    name = own.algorithm(task) if isinstance(task, dict) else None
    return name if isinstance(name, str) and name in ALGORITHMS else None


def _known_keys(algorithm: str | None) -> Mapping[str, Collection[str]]:
    """The keys of a study file, each with those of its table."""
    known: dict[str, Collection[str]] = dict.fromkeys(Spec.model_fields, ())
    known |= {"task": Task.model_fields, "final": Final.model_fields, "stop": Stop.model_fields}
    known["search"] = ["objective", *Search.model_fields]
    known["agent"] = [knob.name for knob in dataclasses.fields(params_of(algorithm or "dqn"))]
    return known
