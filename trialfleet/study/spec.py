"""A study, as its file describes it; and its digest, by which two descriptions are told apart."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any

from pydantic import ValidationError, model_validator

from trialfleet.checking.fields import Checked, OneOf, Pattern, Strict, Whole
from trialfleet.checking.mistakes import FieldError, dotted, explain
from trialfleet.errors import VersionMismatchError
from trialfleet.search.knobs import Agent, FloatRange, IntRange, largest, smallest
from trialfleet.search.options import (
    PRUNERS,
    SAMPLERS,
    Cmaes,
    Hyperband,
    Pruner,
    Sampler,
    Tpe,
    named,
)

FINAL_SUFFIX = ".final"  # NAME.final is the study of NAME's final stage
_MAX_STEPS = 1_000_000_000
_MAX_EPISODES = 10_000
_MAX_SEGMENTS = 10_000


def _whole(low: int, high: int) -> Checked:
    return Checked(Whole(low, high).check)


def _name(value: object) -> str:
    name = Pattern(
        re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"),
        "1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit",
    ).check(value)
    if name.lower().endswith(FINAL_SUFFIX):
        raise FieldError(f"{name!r}; must not end with {FINAL_SUFFIX}, which names a final stage")
    return name


_ENV = Pattern(
    re.compile(r"[A-Za-z0-9_:./-]{1,200}"),
    "the id of a Gymnasium environment, 1 to 200 letters, digits and _ : . / -",
)


class Task(Strict):
    """What the agents are trained on, and for how long."""

    # any Gymnasium id with a flat Box observation and Discrete actions
    env: Annotated[str, Checked(_ENV.check)] = "CartPole-v1"
    # agents trained together in a trial
    seeds: Annotated[int, _whole(1, 256)] = 4
    # environment steps of each agent
    train_steps: Annotated[int, _whole(1, _MAX_STEPS)] = 30_000
    # environment steps of a segment: train, evaluate, report, maybe prune, maybe checkpoint
    eval_every: Annotated[int, _whole(1, _MAX_STEPS)] = 5_000
    # per agent, greedy, after each segment
    eval_episodes: Annotated[int, _whole(1, _MAX_EPISODES)] = 20
    # which networks of each agent are its result: "best" of its evaluations, or the "last"
    keep: Annotated[str, Checked(OneOf(("best", "last")).check)] = "best"
    # of those networks, whose mean over agents and episodes is the trial's value
    score_episodes: Annotated[int, _whole(1, _MAX_EPISODES)] = 50

    @property
    def segments(self) -> int:
        """How many evaluations a trial has."""
        return self.train_steps // self.eval_every

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
    trials: Annotated[int, _whole(1, 1_000_000)] = 50
    sampler: Annotated[Sampler, named(SAMPLERS)] = Tpe()
    pruner: Annotated[Pruner, named(PRUNERS)] = Hyperband()
    # failed trials that are replaced; with one more the study is given up
    max_failures: Annotated[int, _whole(0, 1_000_000)] = 10
    # workers that a trial may lose before it fails
    max_attempts: Annotated[int, _whole(1, 1_000)] = 3


class Final(Strict):
    """The final stage: the best configurations once more, on seeds that the search never saw."""

    # configurations retrained
    top: Annotated[int, _whole(1, 1_000)] = 3
    # fresh agents for each
    seeds: Annotated[int, _whole(1, 256)] = 10
    # per agent, greedy, at the end
    episodes: Annotated[int, _whole(1, _MAX_EPISODES)] = 150


class Spec(Strict):
    """A whole study file."""

    # the study's name in the database
    name: Annotated[str, Checked(_name)]
    # every random draw of the study comes from it
    seed: Annotated[int, _whole(0, 2**32 - 1)] = 0
    task: Task = Task()
    agent: Agent = Agent()
    search: Search = Search()
    final: Final = Final()

    def to_json(self) -> str:
        """The one text of this study: keys sorted, no white space, every default written out."""
        fields = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """The study that `to_json` wrote; VersionMismatchError if another version's did."""
        try:
            return cls.model_validate(json.loads(text))
        except ValidationError as error:
            problem = explain(error, cls)
            raise VersionMismatchError(
                f"the study as stored: {dotted(problem.at)}: {problem.text}"
            ) from None
        except ValueError as error:
            raise VersionMismatchError("the study as stored is not JSON") from error

    @property
    def digest(self) -> str:
        """SHA-256 of the study's one text, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @model_validator(mode="after")
    def _parts_agree(self) -> Spec:
        agent, task, search = self.agent, self.task, self.search
        if largest(agent.batch_size) > smallest(agent.buffer_size):
            raise FieldError(
                f"up to {largest(agent.batch_size)} is more than the smallest buffer_size"
                f" ({smallest(agent.buffer_size)}); must fit in it",
                at="agent.batch_size",
            )
        for name in ("learning_starts", "train_freq"):
            most = largest(getattr(agent, name))
            if most > task.eval_every:
                raise FieldError(
                    f"up to {most} is more than task.eval_every ({task.eval_every}), so a segment"
                    f" could pass without learning; must be at most {task.eval_every}",
                    at=f"agent.{name}",
                )
        for name in ("min_resource", "n_warmup_steps"):
            steps = getattr(search.pruner, name, None)
            if steps is not None and steps > task.train_steps:
                raise FieldError(
                    f"{steps} environment steps are more than task.train_steps"
                    f" ({task.train_steps}); must be at most {task.train_steps}",
                    at=f"search.pruner.{name}",
                )
        if isinstance(search.sampler, Cmaes) and not any(
            isinstance(knob, IntRange | FloatRange) for knob in agent.searched().values()
        ):
            raise FieldError(
                '"cmaes" searches ranges and [agent] has none; use another sampler such as "tpe"',
                at="search.sampler",
            )
        if self.final.top > search.trials:
            raise FieldError(
                f"{self.final.top} is more than search.trials ({search.trials});"
                f" must be at most {search.trials}",
                at="final.top",
            )
        return self


def differences(a: Spec, b: Spec) -> list[str]:
    """One line for each field in which the stored study a and the given study b differ."""
    there, here = _fields(a), _fields(b)
    return [
        f"{field}: {_toml(there[field])} there, {_toml(here[field])} here"
        for field in here
        if there[field] != here[field]
    ]


def _fields(spec: Spec) -> dict[str, Any]:
    """Every field by its dotted path; a knob, a sampler or a pruner is one field."""
    fields: dict[str, Any] = {}
    for name, value in spec.model_dump(mode="json", exclude_none=True).items():
        if isinstance(value, dict):
            fields.update({f"{name}.{key}": below for key, below in value.items()})
        else:
            fields[name] = value
    return fields


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


def _divisor(number: int, *, near: int) -> int:
    """The divisor of the number that is nearest to another one."""
    small = [each for each in range(1, int(number**0.5) + 1) if number % each == 0]
    return min({*small, *(number // each for each in small)}, key=lambda each: abs(each - near))
