"""The table [task]: what the agents are trained on, and for how long."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from trialfleet.checking.fields import Strict
from trialfleet.checking.imports import FUNCTION
from trialfleet.checking.mistakes import FieldError
from trialfleet.checking.rules import OneOf, Pattern, Real, Rule, Whole
from trialfleet.search.algorithms import ALGORITHMS
from trialfleet.study import own
from trialfleet.study.environments import Arguments, Table, Wrappers
from trialfleet.study.returns import Bounds, Returns, known_returns

MAX_EPISODES = 10_000
_MAX_STEPS = 1_000_000_000
_MAX_SEGMENTS = 10_000
_YEAR = 366 * 24 * 3600  # seconds


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

    @property
    def allowed(self) -> str:
        """The values it takes."""
        return OneOf(tuple(ALGORITHMS)).allowed

    def check(self, value: object) -> str:
        """The name itself."""
        try:
            return OneOf(tuple(ALGORITHMS)).check(value)
        except FieldError as mistake:
            raise FieldError(
                f"{mistake.text}; any other trains as a function of your own, which task.objective"
                " names (docs/own-training.md)"
            ) from None


class Task(Strict):
    """What the agents are trained on, and for how long."""

    # how the agents learn, with the hyperparameters of [agent]; "function" follows from objective
    algorithm: Annotated[str, _Algorithm()] = "dqn"
    # your own training instead of an algorithm, with the parameters of [parameters]
    objective: Annotated[str | None, FUNCTION] = None
    # any Gymnasium id with Discrete actions; "module:Id" if a module of yours registers it
    env: Annotated[str, _ENV] = "CartPole-v1"
    # keyword arguments of the environment
    env_args: Annotated[Table, Arguments()] = Table()
    # steps after which an episode is cut off, instead of the environment's own limit
    max_episode_steps: Annotated[int | None, Whole(1, _MAX_STEPS)] = None
    # around the environment, the innermost first: "module:Class", or a table with arguments
    wrappers: Annotated[tuple[Table, ...], Wrappers()] = ()
    # the least and the most that an episode can return, or a seed's score of your own training;
    # what is known of the environment unless given
    returns: Annotated[Returns | None, Bounds()] = None
    # agents trained together in a trial
    seeds: Annotated[int, Whole(1, 256)] = 4
    # environment steps of each agent
    train_steps: Annotated[int, Whole(1, _MAX_STEPS)] = 30_000
    # environment steps between two evaluations; must divide train_steps
    eval_every: Annotated[int, Whole(1, _MAX_STEPS)] = 5_000
    # episodes of an evaluation, for each agent, with greedy actions
    eval_episodes: Annotated[int, Whole(1, MAX_EPISODES)] = 20
    # which networks of an agent are its result: those of its best evaluation, or its last ones
    keep: Annotated[str, OneOf(("best", "last"))] = "best"
    # episodes of each agent's result; their mean over the agents is the trial's value
    score_episodes: Annotated[int, Whole(1, MAX_EPISODES)] = 50
    # seconds after which an attempt at a trial fails it; 0: no limit
    max_seconds: Annotated[float, Real(0, _YEAR)] = 0.0

    # The default is far more than any step takes: a false alarm costs a trial, but a step that
    # never returns costs its worker.

    # seconds without any progress after which a trial fails; 0: no limit
    stall_seconds: Annotated[float, Real(0, _YEAR)] = 1_800.0

    @property
    def segments(self) -> int:
        """How many evaluations a trial has."""
        return self.train_steps // self.eval_every

    @property
    def subject(self) -> str:
        """What is trained, or on what: the environment, or the function of your own."""
        return self.objective or self.env

    @property
    def known_returns(self) -> Returns | None:
        """The bounds of returns that follow from the task alone.

        Arguments and wrappers of an environment may change its rewards, so there must be none.
        """
        plain = self.objective is None and not self.env_args and not self.wrappers
        return known_returns(self.env, self.max_episode_steps) if plain else None

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

    @model_validator(mode="after")
    def _returns_are_possible(self) -> Task:
        known = self.known_returns
        if self.returns and known and not self.returns.contains(known):
            raise FieldError(
                f"{self.returns}; episodes of {self.env} return {known}, which it must contain;"
                " can be left out",
                at="returns",
            )
        return self


def _divisor(number: int, *, near: int) -> int:
    """The divisor of the number that is nearest to another one."""
    small = [each for each in range(1, int(number**0.5) + 1) if number % each == 0]
    return min({*small, *(number // each for each in small)}, key=lambda each: abs(each - near))
