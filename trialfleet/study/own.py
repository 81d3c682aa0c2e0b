"""Studies of your own training: what of a study file goes with `task.objective`, what does not.

Their table is [parameters], which has the place of [agent]: a search space, with names of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trialfleet.checking.mistakes import FieldError, Gathering, shown, together

ALGORITHM = "function"
NO_ENVIRONMENT = object()  # stands for one where there is none to be checked
# What is said of agents in an environment, and so of no function.
_OF_ENVIRONMENTS = (
    "env",
    "env_args",
    "eval_episodes",
    "keep",
    "max_episode_steps",
    "score_episodes",
    "wrappers",
)
Tables = dict[str, Any]


def is_own(tables: object) -> bool:
    """Whether a study file is one of these."""
    task = tables.get("task") if isinstance(tables, Mapping) else None
    return isinstance(task, Mapping) and task.get("objective") is not None


def algorithm(task: Mapping[str, Any]) -> object:
    """What [task] says of the algorithm, before anything is checked."""
    return task.get("algorithm", "dqn" if task.get("objective") is None else ALGORITHM)


def checked_task(task: Tables) -> Tables:
    """The table [task] with the algorithm that follows from it.

    Raises:
        FieldError: It has fields that do not go together.
    """
    if task.get("objective") is None:
        if task.get("algorithm") == ALGORITHM:
            raise FieldError(
                'is missing; must name your function, "package.module:function"', at="objective"
            )
        return task
    with Gathering() as gathering:
        if algorithm(task) != ALGORITHM:
            with gathering.under("algorithm"):
                raise FieldError(
                    f"{shown(task['algorithm'])} stands beside objective; must be left out there"
                )
        for field in _OF_ENVIRONMENTS:
            if field in task:
                with gathering.under(field):
                    raise FieldError(
                        "stands beside objective, whose function decides about that;"
                        " must be left out"
                    )
    return {**task, "algorithm": ALGORITHM, "env": NO_ENVIRONMENT}


def fields_that_apply(task: Tables) -> Tables:
    """The fields of [task] that say anything of the study."""
    left_out = ("objective",) if task.get("objective") is None else _OF_ENVIRONMENTS
    return {name: value for name, value in task.items() if name not in left_out}


def inside(tables: Any) -> Any:
    """The tables with [agent] where the file has [parameters].

    Raises:
        FieldError: It has the table of the other kind of study.
    """
    if not isinstance(tables, dict):
        return tables
    if not is_own(tables):
        if "parameters" in tables:
            raise FieldError(
                "goes with task.objective; the hyperparameters of an algorithm stand under [agent]",
                at="parameters",
                unknown_key=True,
            )
        return tables
    if "agent" in tables:
        raise FieldError(
            "goes with an algorithm; what task.objective takes stands under [parameters]",
            at="agent",
            unknown_key=True,
        )
    rest = {name: table for name, table in tables.items() if name != "parameters"}
    return {**rest, "agent": tables.get("parameters", {})}


def outside(problem: FieldError, tables: Any) -> FieldError:
    """Mistakes as the file's own tables name their places."""
    if not is_own(tables):
        return problem
    return together([_outside(each) for each in problem.each])


def _outside(problem: FieldError) -> FieldError:
    table, dot, field = problem.at.partition(".")
    if table != "agent":
        return problem
    return FieldError(problem.text, at=f"parameters{dot}{field}", unknown_key=problem.unknown_key)


def as_file(tables: Tables) -> Tables:
    """The tables as a file has them."""
    if not is_own(tables):
        return tables
    return {("parameters" if name == "agent" else name): each for name, each in tables.items()}
