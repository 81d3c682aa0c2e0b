"""A study, as its file describes it: every table with its fields, their rules and defaults."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    model_serializer,
    model_validator,
)

from trialfleet.checking.fields import Strict, explain
from trialfleet.checking.imports import FUNCTION
from trialfleet.checking.mistakes import FieldError, dotted, under
from trialfleet.checking.rules import OneOf, Pattern, Real, Rule, Whole
from trialfleet.errors import VersionMismatchError
from trialfleet.search.algorithms import ALGORITHMS, params_of
from trialfleet.search.knobs import SearchSpace
from trialfleet.search.pruners import ANY_PRUNER, Hyperband, NoPruner, Pruner
from trialfleet.search.samplers import ANY_SAMPLER, Sampler, Tpe
from trialfleet.study import formats, own
from trialfleet.study.constraints import Constraint, Constraints
from trialfleet.study.enqueued import Enqueued, check_enqueued
from trialfleet.study.environments import Arguments, Table, Wrappers
from trialfleet.study.measures import (
    SCORE,
    Measure,
    Objective,
    Objectives,
    OverSeeds,
    check_measure,
)
from trialfleet.study.stops import Stop

FINAL_SUFFIX = ".final"  # NAME.final is the study of NAME's final stage
_MAX_STEPS = 1_000_000_000
_MAX_EPISODES = 10_000
_MAX_SEGMENTS = 10_000
_YEAR = 366 * 24 * 3600  # seconds


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


class _Env(Pattern):
    """The id of an environment; none where there is a function instead."""

    def check(self, value: object) -> str:
        """The id itself."""
        return "" if value is own.NO_ENVIRONMENT else super().check(value)


_ENV = _Env(
    re.compile(r"[A-Za-z0-9_:./-]{1,200}"),
    "the id of a Gymnasium environment, 1 to 200 letters, digits and _ : . / -",
)


class _Algorithm(Rule):
    """The name of a registered algorithm."""

    def check(self, value: object) -> str:
        """The name itself."""
        return OneOf(tuple(ALGORITHMS)).check(value)


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


class Task(Strict):
    """What the agents are trained on, and for how long."""

    # how the agents learn; [agent] has its hyperparameters
    algorithm: Annotated[str, _Algorithm()] = "dqn"
    # your own training instead, "package.module:function"; [parameters] has its parameters
    objective: Annotated[str | None, FUNCTION] = None
    # any Gymnasium id with Discrete actions, "module:Id" if a module registers it
    env: Annotated[str, _ENV] = "CartPole-v1"
    # keyword arguments of the environment
    env_args: Annotated[Table, Arguments()] = Table()
    # steps after which an episode is cut off; None: as the environment has it
    max_episode_steps: Annotated[int | None, Whole(1, _MAX_STEPS)] = None
    # around the environment, the innermost first: "module:Class", or a table with arguments
    wrappers: Annotated[tuple[Table, ...], Wrappers()] = ()
    # agents trained together in a trial
    seeds: Annotated[int, Whole(1, 256)] = 4
    # environment steps of each agent
    train_steps: Annotated[int, Whole(1, _MAX_STEPS)] = 30_000
    # environment steps of a segment: train, evaluate, report, maybe prune, maybe checkpoint
    eval_every: Annotated[int, Whole(1, _MAX_STEPS)] = 5_000
    # episodes of each agent after a segment, with greedy actions
    eval_episodes: Annotated[int, Whole(1, _MAX_EPISODES)] = 20
    # which networks of each agent are its result: "best" of its evaluations, or the "last"
    keep: Annotated[str, OneOf(("best", "last"))] = "best"
    # episodes of each agent's result; their mean over the agents is the trial's value
    score_episodes: Annotated[int, Whole(1, _MAX_EPISODES)] = 50
    # a trial fails if an attempt at it takes longer; 0: no limit
    max_seconds: Annotated[float, Real(0, _YEAR)] = 0.0
    # a trial that makes no progress for so long fails; 0: no limit. The default is far more than
    # any step takes: a false alarm costs a trial, but a step that never returns costs its worker.
    stall_seconds: Annotated[float, Real(0, _YEAR)] = 1_800.0

    @property
    def segments(self) -> int:
        """How many evaluations a trial has."""
        return self.train_steps // self.eval_every

    @property
    def subject(self) -> str:
        """What is trained, or on what: the environment, or the function of your own."""
        return self.objective or self.env

    @model_validator(mode="before")
    @classmethod
    def _own_training_has_no_environment(cls, table: Any) -> Any:
        return own.checked_task(table) if isinstance(table, dict) else table

    @model_serializer(mode="wrap")
    def _what_applies(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return own.fields_that_apply(dump(self))

    @model_validator(mode="after")
    def _segments_fit(self) -> Task:
        if self.train_steps % self.eval_every:
            raise FieldError(
                f"{self.eval_every} does not divide train_steps ({self.train_steps});"
                f" use a divisor such as {_divisor(self.train_steps, near=self.eval_every)}",
                at="eval_every",
            )
        if self.segments > _MAX_SEGMENTS:
            raise FieldError(
                f"{self.eval_every} makes {self.segments} evaluations of train_steps"
                f" ({self.train_steps}); must make at most {_MAX_SEGMENTS}",
                at="eval_every",
            )
        return self


class Search(Strict):
    """How configurations are found."""

    # trials that count: completed and pruned ones
    trials: Annotated[int, Whole(1, 1_000_000)] = 50
    # what is searched for; `objective = "score"` is short for a list of one
    objectives: Annotated[tuple[Objective, ...], Objectives()] = (SCORE,)
    # how the values of a trial's agents become the trial's: mean, median, iqm or worst
    over_seeds: Annotated[str, OverSeeds()] = "mean"
    sampler: Annotated[Sampler, ANY_SAMPLER] = Tpe()
    # hyperband, or none where there is no single objective that evaluations tell of
    pruner: Annotated[Pruner, ANY_PRUNER] = Hyperband()
    # share of the pruned trials that are trained to their end, to see what pruning costs
    audit: Annotated[float, Real(0, 1)] = 0.0
    # failed trials that are replaced; one more ends the study
    max_failures: Annotated[int, Whole(0, 1_000_000)] = 10
    # workers that a trial may lose before it fails
    max_attempts: Annotated[int, Whole(1, 1_000)] = 3

    def probe(self, spec: Spec) -> None:
        """Import and try what it names of the user's own.

        Raises:
            FieldError: That fails; at its dotted path.
        """
        with under("search.pruner"):
            self.pruner.probe(spec)
        with under("search.sampler"):
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


class Final(Strict):
    """The final stage: the best configurations once more, on seeds that the search never saw."""

    # configurations retrained
    top: Annotated[int, Whole(1, 1_000)] = 3
    # fresh agents for each
    seeds: Annotated[int, Whole(1, 256)] = 10
    # episodes of each agent at the end, with greedy actions
    episodes: Annotated[int, Whole(1, _MAX_EPISODES)] = 150


class Spec(Strict):
    """A whole study file."""

    # the study's name in the database
    name: Annotated[str, _NAME]
    # every random draw of the study comes from it
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
    # the study's share of a fleet is its priority among those that have trials to give
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

    @property
    def budget(self) -> int:
        """Trials that count: as many as asked for, or as there are configurations to try once."""
        count = self.search.sampler.count(self)
        return self.search.trials if count is None else min(self.search.trials, count)

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
        with under("agent"):
            params_of(self.task.algorithm).check(self.agent, self.task)
        with under("search.pruner"):
            self._pruner_has_what_it_judges()
            self.search.pruner.check(self)
        with under("search.sampler"):
            self.search.sampler.check(self)
        check_enqueued(self)
        self._can_be_measured()
        with under("stop"):
            self.stop.check(len(self.search.objectives))
        if self.search.audit and [*map(str, self.search.objectives)] != [str(SCORE)]:
            raise FieldError(
                f"{self.search.audit:g}; the audit compares scores, and the objective is"
                f" {', '.join(map(str, self.search.objectives))}; must be 0",
                at="search.audit",
            )
        if self.final.top > self.budget:
            points = self.budget < self.search.trials
            what = "there are configurations" if points else "search.trials"
            raise FieldError(
                f"{self.final.top} is more than {what} ({self.budget});"
                f" must be at most {self.budget}",
                at="final.top",
            )
        return self

    def _can_be_measured(self) -> None:
        task, search = self.task, self.search
        asked: list[tuple[str, str, Measure, str | None]] = [
            ("search", "objectives", each.measure, None) for each in search.objectives
        ]
        asked += [
            (f"constraints.{number}", "measure", each.measure, each.over_seeds)
            for number, each in enumerate(self.constraints, start=1)
        ]
        for table, at, measure, over_seeds in asked:
            with under(table):
                check_measure(
                    measure,
                    over_seeds or search.over_seeds,
                    seeds=task.seeds,
                    own_training=task.objective is not None,
                    at=at,
                )

    def _pruner_has_what_it_judges(self) -> None:
        objectives = self.search.objectives
        if self.search.prunable or isinstance(self.search.pruner, NoPruner):
            return
        name = f'"{self.search.pruner.name}"'
        if len(objectives) > 1:
            raise FieldError(
                f"{name}; a pruner judges one value, and there are {len(objectives)} objectives: a"
                ' trial that is behind in one may be ahead in another; must be "none"'
            )
        raise FieldError(
            f"{name}; pruners judge the returns of evaluations, which say nothing certain of"
            f' {objectives[0]}; must be "none", or the objective score or auc'
        )


def _algorithm(tables: Any) -> str | None:
    """The algorithm that [task] names, before anything is checked; None if there is none."""
    task = tables.get("task", {}) if isinstance(tables, dict) else None
    if isinstance(task, Task):
        return task.algorithm
    name = own.algorithm(task) if isinstance(task, dict) else None
    return name if isinstance(name, str) and name in ALGORITHMS else None


def _known_keys(algorithm: str | None) -> Mapping[str, Collection[str]]:
    """The keys of a study file, each with those of its table."""
    known: dict[str, Collection[str]] = dict.fromkeys(Spec.model_fields, ())
    known |= {"task": Task.model_fields, "final": Final.model_fields, "stop": Stop.model_fields}
    known["search"] = ["objective", *Search.model_fields]
    known["agent"] = [knob.name for knob in dataclasses.fields(params_of(algorithm or "dqn"))]
    return known


def _divisor(number: int, *, near: int) -> int:
    """The divisor of the number that is nearest to another one."""
    small = [each for each in range(1, int(number**0.5) + 1) if number % each == 0]
    return min({*small, *(number // each for each in small)}, key=lambda each: abs(each - near))
